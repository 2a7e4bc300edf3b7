"""Ratings known up to an offset per prompt: only differences within a prompt count."""

from dataclasses import dataclass
from typing import ClassVar

from vrm_pyro.models.priors.base import check_positive
from vrm_pyro.models.ratings.base import RatingLikelihood, RatingModule
from vrm_pyro.models.ratings.gaussian import RatingScale
from vrm_pyro.models.ratings.prompt_level import SharedLevelValues


@dataclass(frozen=True)
class DifferenceRatings(RatingLikelihood):
    """y_a - y_b ~ N(s_a - s_b, 2 tau_k^2) (spec 2.5 i): a prompt's offset cancels.

    For ratings whose level depends on the prompt or its rater. With R rated responses of a
    prompt, it is the likelihood of the R - 1 independent differences under Normal(s + c, tau^2)
    with a free c per prompt and objective. A single rated response carries no information.

    Args:
        scale: tau, in standard deviations of all ratings; the initial value if learned.
        learn_scale: Learn tau, one per objective.

    Raises:
        ValueError: If ``scale`` is not positive.
    """

    scale: float = 0.5
    learn_scale: bool = True

    levels_known: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(self, scale=self.scale)

    def build(self, num_objectives: int, power: float = 1.0) -> RatingModule:
        """Return the module with tau."""
        return DifferenceRatingsModule(num_objectives, self.scale, self.learn_scale, power)


class DifferenceRatingsModule(RatingModule):
    """Scale tau of :class:`DifferenceRatings` (spec 2.5 i)."""

    def __init__(self, num_objectives: int, scale: float, learn_scale: bool, power: float) -> None:
        super().__init__()
        self.scale = RatingScale(num_objectives, scale, learn_scale)
        self.power = power

    def forward(self) -> SharedLevelValues:
        """Return tau and lambda."""
        return SharedLevelValues(self.scale(), self.power)

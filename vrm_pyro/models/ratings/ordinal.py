"""Ordinal ratings: a cumulative logit around the score."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from vrm_pyro.models.likelihoods.cumulative_logit import between_levels
from vrm_pyro.models.networks import inverse_softplus
from vrm_pyro.models.ratings.base import (
    LEAST_INFORMATION,
    RatingLikelihood,
    RatingModule,
    RatingValues,
)

# Keeps two cutpoints apart: a level of no width has log-probability minus infinity.
_LEAST_GAP = 1e-3


@dataclass(frozen=True)
class OrdinalRatings(RatingLikelihood):
    """P(y <= level l) = sigmoid(cutpoint_kl - s_jk), cutpoints ordered and learned (spec 2.5 i).

    For ratings on a discrete scale, such as 1 to 5. The distance between two levels is learned
    for each objective, and ratings at the ends of the scale do not bound the score, as they would
    under a Gaussian. The levels divide the range of the training ratings evenly. A rating between
    two levels (a mean over raters) is split between both, which gives a quasi-likelihood. Ratings
    outside the training range are clipped.

    Args:
        levels: Number of levels L of the rating scale, at least 2.

    Raises:
        ValueError: If ``levels`` is below 2.

    >>> values = OrdinalRatings(levels=5).build(num_objectives=1)()
    >>> values.level_log_probs(torch.zeros(1)).exp().detach()  # even at the start
    tensor([[0.2000, 0.2000, 0.2000, 0.2000, 0.2000]])
    """

    levels: int = 5

    scale_kind: ClassVar[str] = "unit"

    def __post_init__(self) -> None:
        if self.levels < 2:
            raise ValueError(f"OrdinalRatings: levels is {self.levels}, but must be at least 2.")

    def build(self, num_objectives: int, power: float = 1.0) -> RatingModule:
        """Return the module with the cutpoints."""
        return OrdinalRatingsModule(num_objectives, self.levels, power)


class OrdinalRatingsModule(RatingModule):
    """Cutpoints of :class:`OrdinalRatings`, ordered by construction (spec 2.5 i)."""

    def __init__(self, num_objectives: int, levels: int, power: float) -> None:
        super().__init__()
        # At the start every level is equally likely at a score of 0.
        start = torch.logit(torch.arange(1, levels) / levels)
        self.first = nn.Parameter(start[:1].expand(num_objectives, 1).clone())
        gaps = [inverse_softplus(float(gap) - _LEAST_GAP) for gap in start.diff()]
        self.raw_gaps = nn.Parameter(torch.tensor(gaps).expand(num_objectives, -1).clone())
        self.power = power

    def forward(self) -> "OrdinalValues":
        """Return the cutpoints and lambda."""
        gaps = softplus(self.raw_gaps) + _LEAST_GAP
        cutpoints = torch.cat([self.first, self.first + gaps.cumsum(-1)], -1)
        return OrdinalValues(cutpoints, self.power)


@dataclass(frozen=True)
class OrdinalValues(RatingValues):
    """Values on one step: increasing cutpoints (K, L - 1), and power lambda (spec 2.5 i)."""

    cutpoints: Float[Tensor, "objectives cuts"]
    power: float

    def detach(self) -> "OrdinalValues":
        """Return the same values without gradients."""
        return replace(self, cutpoints=self.cutpoints.detach())

    @property
    def levels(self) -> int:
        """L."""
        return self.cutpoints.shape[-1] + 1

    def level_log_probs(self, scores: Tensor) -> Tensor:
        """Return log P(level | s), shape (..., K, L)."""
        gap = self.cutpoints - scores.unsqueeze(-1)  # (..., K, L - 1)
        below, above = logsigmoid(gap), logsigmoid(-gap)
        # sigma(b) - sigma(a) = sigma(b) sigma(-a) (1 - exp(a - b)): no difference of near numbers.
        width = torch.log(-torch.expm1(-self.cutpoints.diff(dim=-1)))
        middle = below[..., 1:] + above[..., :-1] + width
        return torch.cat([below[..., :1], middle, above[..., -1:]], -1)

    def log_prob(self, scores: Tensor, ratings: Tensor) -> Tensor:
        """Return the log-probability of y's level; between levels, the mix of both."""
        return self._mix(self.level_log_probs(scores), ratings)

    def slope(self, scores: Tensor, ratings: Tensor) -> Tensor:
        """Return 1 - sigma(b - s) - sigma(a - s) for a level between cutpoints a and b."""
        return self._mix(self._level_slopes(scores), ratings)

    def information(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return sum_l P(l) slope_l^2."""
        mass = self.level_log_probs(scores).exp()
        value = (mass * self._level_slopes(scores) ** 2).sum(-1)
        return value.clamp(min=LEAST_INFORMATION)

    def mean(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the expected level in [0, 1]."""
        mass = self.level_log_probs(scores).exp()
        levels = torch.linspace(0, 1, self.levels, dtype=mass.dtype, device=mass.device)
        return mass @ levels

    def sample(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Draw levels in [0, 1]."""
        drawn = torch.distributions.Categorical(logits=self.level_log_probs(scores)).sample()
        return drawn.to(scores.dtype) / (self.levels - 1)

    def _level_slopes(self, scores: Tensor) -> Tensor:
        cumulative = torch.sigmoid(self.cutpoints - scores.unsqueeze(-1))
        zero, one = torch.zeros_like(cumulative[..., :1]), torch.ones_like(cumulative[..., :1])
        lower = torch.cat([zero, cumulative], -1)
        upper = torch.cat([cumulative, one], -1)
        # d log(sigma(b - s) - sigma(a - s)) / ds = sigma(a - s) + sigma(b - s) - 1.
        return lower + upper - 1

    def _mix(self, per_level: Tensor, ratings: Tensor) -> Tensor:
        lower, share = between_levels(ratings.clamp(0, 1), self.levels)
        shape = torch.broadcast_shapes(per_level.shape[:-1], ratings.shape)
        per_level = per_level.expand(*shape, -1)
        low = per_level.gather(-1, lower.expand(shape).unsqueeze(-1)).squeeze(-1)
        high = per_level.gather(-1, (lower + 1).expand(shape).unsqueeze(-1)).squeeze(-1)
        return (1 - share) * low + share * high

"""Likelihood of a preference in grades, from "much worse" to "much better"."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vrm_pyro.models.likelihoods.base import PreferenceLikelihood
from vrm_pyro.models.likelihoods.cumulative_logit import CumulativeLogit


@dataclass(frozen=True)
class Graded(CumulativeLogit):
    """P(grade >= l | Delta) = sigmoid(Delta - t_l), cutpoints symmetric about 0 (spec 2.4).

    For rows whose ``preference`` says how much better the first answer is, on L levels: grade l
    of 0 .. L - 1 is written as l / (L - 1). With 5 levels, 0, 0.25, 0.5, 0.75 and 1 may mean much
    worse, worse, tie, better, much better. With odd L the middle level is a tie; L = 3 is
    RaoKupper. Values between two grades are soft labels.

    Args:
        levels: L, at least 3.
        gaps: Positive distances in reward units: from 0 to the first positive cutpoint, and
            between further ones. Give (levels - 1) // 2 numbers, or one for all. Initial values
            if learned.
        learn: Learn the gaps, with the weak prior log gap ~ Normal(0, 2^2), counted once for the
            data set.

    Raises:
        ValueError: If there are fewer than 3 levels, a gap is not positive, or the number of gaps
            does not fit the levels.

    >>> Graded(levels=5).outcomes
    (0.0, 0.25, 0.5, 0.75, 1.0)
    """

    levels: int = 5
    gaps: Sequence[float] = (1.0,)
    learn: bool = True

    def __post_init__(self) -> None:
        # A list comes from JSON.
        object.__setattr__(self, "gaps", tuple(float(gap) for gap in self.gaps))
        if self.levels < 3:
            raise ValueError(
                f"Graded: levels is {self.levels}, but must be at least 3. For two outcomes use "
                "BradleyTerry."
            )
        count = (self.levels - 1) // 2
        if len(self.gaps) not in {1, count}:
            raise ValueError(
                f"Graded: gaps has {len(self.gaps)} numbers, but {self.levels} levels need "
                f"{count}, or one for all."
            )
        if not all(0 < gap < math.inf for gap in self.gaps):
            raise ValueError(
                f"Graded: gaps is {list(self.gaps)}, but every gap must be above 0 and finite."
            )

    @property
    def num_levels(self) -> int:
        """Number L of grades."""
        return self.levels

    @property
    def steps(self) -> tuple[float, ...]:
        """The gaps, one for each positive cutpoint."""
        count = (self.levels - 1) // 2
        return tuple(self.gaps) * (1 if len(self.gaps) == count else count)

    def build(self) -> PreferenceLikelihood:
        """Return the likelihood itself, or its module with learned gaps."""
        return self.learned() if self.learn else self

"""Rao and Kupper's likelihood of a preference with ties."""

import math
from dataclasses import dataclass

from vrm_pyro.likelihood.base import PreferenceLikelihood
from vrm_pyro.likelihood.cumulative_logit import CumulativeLogit


@dataclass(frozen=True)
class RaoKupper(CumulativeLogit):
    """p(win) = sigmoid(Delta - t), p(loss) = sigmoid(-Delta - t), p(tie) the rest (spec 2.4).

    For rows whose ``preference`` is 1, 0.5 or 0: a difference of rewards below about t is not
    noticed. Ties fade as e^{-|Delta|}. Other preferences are soft labels. The win alone is the
    "margin" loss -log sigmoid(Delta - t); with its ties it is a normalised likelihood.

    Args:
        threshold: t, in units of the reward, > 0; where learned, its start. At Delta = 0 a share
            tanh(t / 2) of the pairs is tied.
        learn: Learn it, with the weak prior log t ~ Normal(0, 2^2) counted once for the data set.

    Raises:
        ValueError: If ``threshold`` is not a positive number.
    """

    threshold: float = 0.5
    learn: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.threshold < math.inf:
            raise ValueError(
                f"RaoKupper: threshold is {self.threshold}, but must be above 0 and finite. "
                "Without ties use BradleyTerry."
            )

    @property
    def num_levels(self) -> int:
        """Loss, tie, win."""
        return 3

    @property
    def steps(self) -> tuple[float, ...]:
        """The threshold alone."""
        return (self.threshold,)

    def build(self) -> PreferenceLikelihood:
        """Return the likelihood itself, or its module with a learned threshold."""
        return self.learned() if self.learn else self

"""Davidson's likelihood of a preference with ties."""

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.models.likelihoods.base import PreferenceLikelihood, like
from vrm_pyro.models.likelihoods.learned import PositiveLikelihood


class _DavidsonFormulas(PreferenceLikelihood):
    """Formulas of Davidson's likelihood (spec 2.4), for fixed or learned nu."""

    @property
    @abstractmethod
    def nu(self) -> float | Tensor:
        """The weight of a tie."""

    @property
    def outcomes(self) -> tuple[float, ...]:
        """Loss, tie and win of the first: 0, 1/2, 1."""
        return (0.0, 0.5, 1.0)

    def log_prob(
        self, delta: Float[Tensor, "*#shape"], preference: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*#shape"]:
        """Return (c - 1/2) Delta + (1 - |2c - 1|) log nu - log(e^{Delta/2} + e^{-Delta/2} + nu).

        1 - |2c - 1| is the share of a tie in the label c, so this is also the interpolation of
        soft labels.
        """
        log_tie, log_total = self._logs(delta)
        tie = 1 - (2 * preference - 1).abs()
        return (preference - 0.5) * delta + tie * log_tie - log_total

    def probability(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return (e^{Delta/2} + nu / 2) / (e^{Delta/2} + e^{-Delta/2} + nu)."""
        win, tie, _ = self._chances(delta)
        return win + 0.5 * tie

    def score(
        self, delta: Float[Tensor, "*#shape"], preference: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*#shape"]:
        """Return c - p(c = 1) - p(c = 1/2) / 2."""
        return preference - self.probability(delta)

    def information(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the variance of c, p(1) p(0) + p(1/2) (1 - p(1/2)) / 4."""
        win, tie, loss = self._chances(delta)
        return win * loss + 0.25 * tie * (win + loss)

    def _logs(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Return log nu and the log of the sum of the three weights."""
        log_tie = like(self.nu, delta).log()
        both = torch.logaddexp(0.5 * delta, -0.5 * delta)
        return log_tie, torch.logaddexp(both, log_tie)

    def _chances(self, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_tie, log_total = self._logs(delta)
        win, loss = (0.5 * delta - log_total).exp(), (-0.5 * delta - log_total).exp()
        return win, (log_tie - log_total).exp(), loss


@dataclass(frozen=True)
class Davidson(_DavidsonFormulas):
    """p(win), p(tie), p(loss) in proportion to e^{Delta/2}, nu, e^{-Delta/2} (spec 2.4).

    For rows whose ``preference`` is 1, 0.5 or 0; other values are soft labels. Given no tie it
    is Bradley-Terry: a win has odds e^Delta. The tie probability falls as e^{-|Delta|/2}, half as
    fast as under RaoKupper.

    Args:
        nu: Weight of a tie, > 0; the initial value if learned. At Delta = 0, a share
            nu / (2 + nu) of the pairs is tied.
        learn: Learn nu, with the weak prior log nu ~ Normal(0, 2^2), counted once for the data
            set.

    Raises:
        ValueError: If ``nu`` is not a positive number.

    >>> davidson = Davidson(nu=1.0, learn=False)
    >>> davidson.outcome_probabilities(torch.tensor(0.0))  # loss, tie, win
    tensor([0.3333, 0.3333, 0.3333])
    """

    nu: float = 0.5
    learn: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.nu < math.inf:
            raise ValueError(
                f"Davidson: nu is {self.nu}, but must be above 0 and finite. Without ties use "
                "BradleyTerry."
            )

    def build(self) -> PreferenceLikelihood:
        """Return the likelihood itself, or its module with a learned nu."""
        return _DavidsonModule((self.nu,)) if self.learn else self


class _DavidsonModule(PositiveLikelihood, _DavidsonFormulas):
    """Davidson likelihood with nu as a parameter."""

    @property
    def nu(self) -> Tensor:
        """The weight nu of a tie, a scalar."""
        return self.values[0]

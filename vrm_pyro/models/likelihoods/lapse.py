"""Bradley-Terry likelihood with label noise: a share of the labels is flipped."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from vrm_pyro.models.likelihoods.base import PreferenceLikelihood, like
from vrm_pyro.models.likelihoods.learned import LearnedLikelihood
from vrm_pyro.models.likelihoods.logistic import Elementwise, LogisticLikelihood

# Beta(1, 20) prior on the rate: mean 0.048, so most labels are expected to be right (spec 2.4).
PRIOR_CONCENTRATION: Final = 20.0


class _LapseFormulas(LogisticLikelihood):
    """Formulas of the lapse likelihood (spec 2.4), for a fixed or learned ``rate`` eps."""

    lapses = True

    @property
    @abstractmethod
    def rate(self) -> float | Tensor:
        """The probability eps that a label is flipped."""

    def log_prob(
        self, delta: Float[Tensor, "*#shape"], preference: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*#shape"]:
        """Return c log p(1 | Delta) + (1 - c) log p(0 | Delta)."""
        rate = like(self.rate, delta)
        log_rate, log_rest = torch.log(rate), torch.log1p(-2 * rate)
        win = torch.logaddexp(log_rate, log_rest + logsigmoid(delta))
        loss = torch.logaddexp(log_rate, log_rest + logsigmoid(-delta))
        return preference * win + (1 - preference) * loss

    def _log_prob(self, delta: Tensor, preference: Tensor, log_sigmoid: Elementwise) -> Tensor:
        """Return the same from log sigmoids: p(1 | Delta) = (eps + (1 - eps) e^D) / (1 + e^D).

        For expectations alone, as it loses digits where Delta is large.
        """
        rate = like(self.rate, delta)
        shift = torch.log1p(-rate) - rate.log()
        win = log_sigmoid(-delta) - log_sigmoid(-delta - shift)
        loss = log_sigmoid(delta) - log_sigmoid(delta - shift)
        return preference * win + (1 - preference) * loss + rate.log()

    def _probability(self, delta: Tensor, sigmoid: Elementwise) -> Tensor:
        """Return eps + (1 - 2 eps) sigmoid(Delta)."""
        return self.with_lapse(sigmoid(delta))

    def score(
        self, delta: Float[Tensor, "*#shape"], preference: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*#shape"]:
        """Return (c - p) p' / (p (1 - p)) with p' = (1 - 2 eps) sigmoid(Delta) sigmoid(-Delta)."""
        # p lies in [eps, 1 - eps], so the denominator is not zero.
        chance = self.probability(delta)
        return (preference - chance) * self._density(delta) / (chance * (1 - chance))

    def information(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return p'^2 / (p (1 - p))."""
        chance = self.probability(delta)
        return self._density(delta) ** 2 / (chance * (1 - chance))

    def without_lapse(self, probability: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return (p - eps) / (1 - 2 eps) = E sigmoid(Delta): p is linear in the sigmoid."""
        rate = like(self.rate, probability)
        # Rounding may move p outside [eps, 1 - eps].
        return ((probability - rate) / (1 - 2 * rate)).clamp(0, 1)

    def with_lapse(self, probability: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return eps + (1 - 2 eps) p."""
        rate = like(self.rate, probability)
        return rate + (1 - 2 * rate) * probability

    def _density(self, delta: Tensor) -> Tensor:
        return (1 - 2 * like(self.rate, delta)) * torch.sigmoid(delta) * torch.sigmoid(-delta)


@dataclass(frozen=True)
class Lapse(_LapseFormulas):
    """p(c = 1 | Delta) = eps + (1 - 2 eps) sigmoid(Delta) (spec 2.4).

    A wrong label costs at most -log eps, however confident the model is, so label noise does not
    distort the reward. The rate and the scale of rewards are partly confounded: with one pair per
    prompt, only labels against a large Delta separate them.

    Args:
        rate: eps, the probability that a label is flipped, in (0, 0.5); the initial value if
            learned.
        learn: Learn the rate, with the prior Beta(1, 20), counted once for the data set.

    Raises:
        ValueError: If ``rate`` is out of range.
    """

    rate: float = 0.05
    learn: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.rate < 0.5:
            raise ValueError(f"Lapse: rate is {self.rate}, but must lie in (0, 0.5).")

    def build(self) -> PreferenceLikelihood:
        """Return the likelihood itself, or its module with a learned rate."""
        return _LapseModule(self.rate) if self.learn else self


class _LapseModule(LearnedLikelihood, _LapseFormulas):
    """Lapse likelihood with eps as a parameter."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(math.log(2 * rate / (1 - 2 * rate))))

    @property
    def rate(self) -> Tensor:
        """The rate eps in (0, 0.5), a scalar."""
        return 0.5 * torch.sigmoid(self.logit.double())

    def log_prior(self) -> Tensor:
        """Return log Beta(eps | 1, 20), up to a constant."""
        return (PRIOR_CONCENTRATION - 1) * torch.log1p(-self.rate).to(self.logit.dtype)

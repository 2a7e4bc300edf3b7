"""Bradley-Terry likelihood with lapses: a share of the labels is the wrong way round."""

import copy
import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from vrm_pyro.likelihood.base import PreferenceLikelihood

# Beta(1, 20) on the rate: mean .048, so labels are taken to be mostly right (spec 2.4).
PRIOR_CONCENTRATION: Final = 20.0


@dataclass(frozen=True)
class Lapse(PreferenceLikelihood):
    """p(c = 1 | Delta) = eps + (1 - 2 eps) sigmoid(Delta) (spec 2.4).

    A wrong label costs at most -log eps, however sure the model is: labels that are noise do not
    drag the reward. The rate and the scale of rewards are partly confounded; with one pair a
    prompt only labels against a large Delta separate them.

    Args:
        rate: eps, the chance that a label is flipped, in (0, 0.5); where learned, its start.
        learn: Learn it, with the prior Beta(1, 20) counted once for the data set.

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
        return LapseModule(self.rate) if self.learn else self

    def log_prob(self, delta: Tensor, preference: Tensor) -> Tensor:
        """Return the mixture of both outcomes' log-probabilities by c."""
        return _log_prob(delta, preference, delta.new_tensor(self.rate))

    def probability(self, delta: Tensor) -> Tensor:
        """Return eps + (1 - 2 eps) sigmoid(Delta)."""
        return _probability(delta, delta.new_tensor(self.rate))

    def score(self, delta: Tensor, preference: Tensor) -> Tensor:
        """Return (c - p) p' / (p (1 - p)) with p' = (1 - 2 eps) sigmoid(Delta) sigmoid(-Delta)."""
        return _score(delta, preference, delta.new_tensor(self.rate))

    def information(self, delta: Tensor) -> Tensor:
        """Return p'^2 / (p (1 - p))."""
        return _information(delta, delta.new_tensor(self.rate))


class LapseModule(nn.Module, PreferenceLikelihood):
    """The likelihood of :class:`Lapse` with eps as a parameter."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(math.log(2 * rate / (1 - 2 * rate))))

    @property
    def rate(self) -> Tensor:
        """The rate eps in (0, 0.5), a scalar."""
        # In float64: 1 - 2 eps rounded to float32 would break the antisymmetry for float64 deltas.
        return 0.5 * torch.sigmoid(self.logit.double())

    def detach(self) -> "LapseModule":
        """Return a copy whose rate takes no gradient."""
        return copy.deepcopy(self).requires_grad_(False)

    def log_prior(self) -> Tensor:
        """Return log Beta(eps | 1, 20), up to a constant."""
        return (PRIOR_CONCENTRATION - 1) * torch.log1p(-self.rate).to(self.logit.dtype)

    def log_prob(self, delta: Tensor, preference: Tensor) -> Tensor:
        """Return the mixture of both outcomes' log-probabilities by c."""
        return _log_prob(delta, preference, self.rate.to(delta.dtype))

    def probability(self, delta: Tensor) -> Tensor:
        """Return eps + (1 - 2 eps) sigmoid(Delta)."""
        return _probability(delta, self.rate.to(delta.dtype))

    def score(self, delta: Tensor, preference: Tensor) -> Tensor:
        """Return (c - p) p' / (p (1 - p)) with p' = (1 - 2 eps) sigmoid(Delta) sigmoid(-Delta)."""
        return _score(delta, preference, self.rate.to(delta.dtype))

    def information(self, delta: Tensor) -> Tensor:
        """Return p'^2 / (p (1 - p))."""
        return _information(delta, self.rate.to(delta.dtype))


def _probability(delta: Tensor, rate: Tensor) -> Tensor:
    return rate + (1 - 2 * rate) * torch.sigmoid(delta)


def _log_prob(delta: Tensor, preference: Tensor, rate: Tensor) -> Tensor:
    log_rate, log_rest = torch.log(rate), torch.log1p(-2 * rate)
    win = torch.logaddexp(log_rate, log_rest + logsigmoid(delta))
    loss = torch.logaddexp(log_rate, log_rest + logsigmoid(-delta))
    return preference * win + (1 - preference) * loss


def _score(delta: Tensor, preference: Tensor, rate: Tensor) -> Tensor:
    # p stays within [eps, 1 - eps], so nothing divides by zero.
    chance = _probability(delta, rate)
    return (preference - chance) * _density(delta, rate) / (chance * (1 - chance))


def _information(delta: Tensor, rate: Tensor) -> Tensor:
    chance = _probability(delta, rate)
    return _density(delta, rate) ** 2 / (chance * (1 - chance))


def _density(delta: Tensor, rate: Tensor) -> Tensor:
    return (1 - 2 * rate) * torch.sigmoid(delta) * torch.sigmoid(-delta)

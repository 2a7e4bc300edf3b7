"""Probit (Thurstone, case V) likelihood of a preference."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.models.likelihoods.base import PreferenceLikelihood


@dataclass(frozen=True)
class Probit(PreferenceLikelihood):
    """c ~ Bernoulli(Phi(Delta)), Phi the standard Normal distribution function (spec 2.4).

    Its tails are lighter than Bradley-Terry's: a label against a large Delta costs Delta^2 / 2
    instead of Delta. Phi(x) is close to sigmoid(1.7 x), so ``reward_scale`` is smaller by 1.7.

    >>> Probit().probability(torch.tensor([0.0, 1.0]))
    tensor([0.5000, 0.8413])
    """

    flattening: ClassVar[float] = 1.0

    def log_prob(
        self, delta: Float[Tensor, "*#shape"], preference: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*#shape"]:
        """Return c log Phi(Delta) + (1 - c) log Phi(-Delta)."""
        win, loss = torch.special.log_ndtr(delta), torch.special.log_ndtr(-delta)
        return preference * win + (1 - preference) * loss

    def probability(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return Phi(Delta)."""
        return torch.special.ndtr(delta)

    def expected_probability(
        self, loc: Float[Tensor, "*shape"], variance: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """Return Phi(loc / sqrt(1 + variance)), exactly."""
        return torch.special.ndtr(loc * torch.rsqrt(1 + variance))

    def score(
        self, delta: Float[Tensor, "*#shape"], preference: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*#shape"]:
        """Return c m(Delta) - (1 - c) m(-Delta), m = phi / Phi the inverse Mills ratio."""
        return preference * _mills(delta) - (1 - preference) * _mills(-delta)

    def information(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return m(Delta) m(-Delta)."""
        return _mills(delta) * _mills(-delta)


def _mills(delta: Tensor) -> Tensor:
    # Compute in logs: density and distribution function both underflow in the tail.
    log_density = -0.5 * delta**2 - 0.5 * math.log(2 * math.pi)
    return torch.exp(log_density - torch.special.log_ndtr(delta))

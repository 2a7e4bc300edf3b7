"""Bernoulli ratings: yes-or-no ratings, or the share of raters who said yes."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from vrm_pyro.models.ratings.base import (
    LEAST_INFORMATION,
    RatingLikelihood,
    RatingModule,
    RatingValues,
)


@dataclass(frozen=True)
class BernoulliRatings(RatingLikelihood):
    """y_jk in [0, 1]: y log sigmoid(s + o) + (1 - y) log sigmoid(-s - o) (spec 2.5 i).

    For yes-or-no ratings and shares of raters. Values between 0 and 1 give a quasi-likelihood.
    The lowest training rating maps to 0 and the highest to 1; later ratings are clipped to them.

    >>> values = BernoulliRatings().build(num_objectives=2)()
    >>> values.mean(torch.tensor([[0.0, 1.0]])).detach()
    tensor([[0.5000, 0.7311]])
    """

    scale_kind: ClassVar[str] = "unit"

    def build(self, num_objectives: int, power: float = 1.0) -> RatingModule:
        """Return the module with the offsets o."""
        return BernoulliRatingsModule(num_objectives, power)


class BernoulliRatingsModule(RatingModule):
    """Offsets of :class:`BernoulliRatings` (spec 2.5 i)."""

    def __init__(self, num_objectives: int, power: float) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(num_objectives))
        self.power = power

    def forward(self) -> "BernoulliValues":
        """Return o and lambda."""
        return BernoulliValues(self.offset, self.power)


@dataclass(frozen=True)
class BernoulliValues(RatingValues):
    """Values on one step: offset o (K,) and power lambda (spec 2.5 i)."""

    offset: Float[Tensor, " objectives"]
    power: float

    def detach(self) -> "BernoulliValues":
        """Return the same values without gradients."""
        return replace(self, offset=self.offset.detach())

    def log_prob(self, scores: Tensor, ratings: Tensor) -> Tensor:
        """Return y log sigmoid(s + o) + (1 - y) log sigmoid(-s - o)."""
        logits = scores + self.offset
        return logsigmoid(logits) - (1 - ratings.clamp(0, 1)) * logits

    def slope(self, scores: Tensor, ratings: Tensor) -> Tensor:
        """Return y - sigmoid(s + o)."""
        return ratings.clamp(0, 1) - self.mean(scores)

    def information(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return sigmoid(s + o) sigmoid(-s - o)."""
        chance = self.mean(scores)
        return (chance * (1 - chance)).clamp(min=LEAST_INFORMATION)

    def mean(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return sigmoid(s + o)."""
        return torch.sigmoid(scores + self.offset)

    def sample(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Draw 0 or 1."""
        return torch.bernoulli(self.mean(scores).detach())

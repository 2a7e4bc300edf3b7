"""Bradley-Terry likelihood of a preference."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.models.likelihoods.logistic import Elementwise, LogisticLikelihood


@dataclass(frozen=True)
class BradleyTerry(LogisticLikelihood):
    """c ~ Bernoulli(sigmoid(Delta)) (spec 2.4), extended to soft labels c in [0, 1].

    >>> BradleyTerry().probability(torch.tensor([0.0, 1.0, -1.0]))
    tensor([0.5000, 0.7311, 0.2689])
    """

    def _log_prob(self, delta: Tensor, preference: Tensor, log_sigmoid: Elementwise) -> Tensor:
        """Return c log sigmoid(Delta) + (1 - c) log sigmoid(-Delta)."""
        return log_sigmoid(delta) - (1 - preference) * delta

    def _probability(self, delta: Tensor, sigmoid: Elementwise) -> Tensor:
        """Return sigmoid(Delta)."""
        return sigmoid(delta)

    def score(
        self, delta: Float[Tensor, "*#shape"], preference: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*#shape"]:
        """Return c - sigmoid(Delta)."""
        return preference - torch.sigmoid(delta)

    def information(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return sigmoid(Delta) sigmoid(-Delta)."""
        chance = torch.sigmoid(delta)
        return chance * (1 - chance)

"""Bradley-Terry likelihood of a preference."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from vrm_pyro.models.likelihoods.base import PreferenceLikelihood


@dataclass(frozen=True)
class BradleyTerry(PreferenceLikelihood):
    """c ~ Bernoulli(sigmoid(Delta)) (spec 2.4), extended to soft labels c in [0, 1].

    >>> BradleyTerry().probability(torch.tensor([0.0, 1.0, -1.0]))
    tensor([0.5000, 0.7311, 0.2689])
    """

    def log_prob(
        self, delta: Float[Tensor, "*#shape"], preference: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*#shape"]:
        """Return c log sigmoid(Delta) + (1 - c) log sigmoid(-Delta)."""
        # Do not use softplus: torch's is linear above 20, so the two outcomes would not sum to 1.
        return logsigmoid(delta) - (1 - preference) * delta

    def probability(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return sigmoid(Delta)."""
        return torch.sigmoid(delta)

    def score(
        self, delta: Float[Tensor, "*#shape"], preference: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*#shape"]:
        """Return c - sigmoid(Delta)."""
        return preference - torch.sigmoid(delta)

    def information(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return sigmoid(Delta) sigmoid(-Delta)."""
        chance = torch.sigmoid(delta)
        return chance * (1 - chance)

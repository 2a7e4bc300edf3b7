"""The generative distributions and parameters of one step, evaluated once and shared."""

from dataclasses import dataclass
from functools import cached_property

import torch.distributions as dist

from vrm_pyro.laws import Gaussian, as_gaussian, detach
from vrm_pyro.likelihood import PreferenceLikelihood
from vrm_pyro.ratings import RatingValues
from vrm_pyro.reward import RewardParameters


@dataclass(frozen=True)
class Heads:
    """p(w | x), p(z | x, y) and the parameters of reward and likelihoods on one batch.

    Program, guide and objective all read the same evaluated networks: one forward pass a step,
    and no second formula for the same prior.

    Args:
        weights: p(w | x): batch (P,), event (K,).
        features: p(z | x, y), Gaussian: batch (R,), event (d_z,).
        reward: A, b, beta.
        ratings: Rating likelihood now; None when ratings do not act on scores.
        likelihood: Preference likelihood.
    """

    weights: dist.Distribution
    features: dist.Distribution
    reward: RewardParameters
    ratings: RatingValues | None
    likelihood: PreferenceLikelihood

    @cached_property
    def gaussian(self) -> Gaussian:
        """Loc and scale of p(z | x, y)."""
        return as_gaussian(self.features)

    def detach(self) -> "Heads":
        """Return a copy whose tensors carry no gradient: the model as the guide's fixed target."""
        return Heads(
            detach(self.weights),
            detach(self.features),
            self.reward.detach(),
            None if self.ratings is None else self.ratings.detach(),
            self.likelihood.detach(),
        )

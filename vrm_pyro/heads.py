"""The generative distributions and parameters of one step, evaluated once and shared."""

from dataclasses import dataclass, replace

import pyro.distributions as dist

from vrm_pyro.likelihood import PreferenceLikelihood
from vrm_pyro.likelihood.ratings import RatingParameters
from vrm_pyro.reward import RewardParameters


@dataclass(frozen=True)
class Heads:
    """p(w | x), p(z | x, y) and the parameters of reward and likelihoods on one batch.

    Program, guide and objective all read the same evaluated networks: one forward pass a step,
    and no second formula for the same prior.

    Args:
        weights: p(w | x), a Dirichlet with batch (P,), event (K,).
        features: p(z | x, y), a diagonal Normal with batch (R,), event (d_z,).
        reward: A, b, beta.
        ratings: o, tau, lambda; None when ratings do not act on scores.
        likelihood: Preference likelihood.
    """

    weights: dist.Dirichlet
    features: dist.Independent
    reward: RewardParameters
    ratings: RatingParameters | None
    likelihood: PreferenceLikelihood

    def detach(self) -> "Heads":
        """Return a copy whose tensors carry no gradient: the model as the guide's fixed target."""
        normal = self.features.base_dist
        ratings = self.ratings
        if ratings is not None:
            ratings = replace(
                ratings, offset=ratings.offset.detach(), scale=ratings.scale.detach()
            )
        return Heads(
            dist.Dirichlet(self.weights.concentration.detach()),
            dist.Normal(normal.loc.detach(), normal.scale.detach()).to_event(1),
            RewardParameters(
                self.reward.loading.detach(),
                self.reward.intercept.detach(),
                self.reward.scale.detach(),
            ),
            ratings,
            self.likelihood.detach(),
        )

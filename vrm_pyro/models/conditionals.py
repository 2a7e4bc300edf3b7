"""The generative distributions and parameters of one step, evaluated once and shared."""

from dataclasses import dataclass
from functools import cached_property

import torch.distributions as dist

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.rankings import Rankings
from vrm_pyro.errors import InputError
from vrm_pyro.models.distributions import Gaussian, as_gaussian, detach
from vrm_pyro.models.likelihoods import PreferenceLikelihood
from vrm_pyro.models.ratings import RatingValues
from vrm_pyro.models.reward import RewardParameters


@dataclass(frozen=True)
class Conditionals:
    """p(w | x), p(z | x, y) and the parameters of reward and likelihoods on one batch.

    Source: spec 2.1, 2.2.

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

    @property
    def one_objective(self) -> bool:
        """Whether K = 1: w is 1 for certain, and every q(w) is p(w)."""
        return self.weights.event_shape == (1,)

    def joint_rankings(self, batch: FeatureBatch) -> Rankings | None:
        """Return the rankings that the likelihood takes as a whole, not pair by pair; or None."""
        return batch.rankings if self.likelihood.joint_rankings else None

    def check_pairs_alone(self, batch: FeatureBatch, what: str) -> None:
        """Refuse to take the pairs of rankings one by one where the likelihood does not.

        Raises:
            InputError: If the batch has rankings; ``what`` says whose formula is for pairs.
        """
        if self.joint_rankings(batch) is not None:
            raise InputError(
                f"model.likelihood is {type(self.likelihood).__name__}, which takes rankings as a "
                f"whole, but {what} integrates each pair alone. Use model.objective sampled, or "
                "model.likelihood BradleyTerry (a composite likelihood of the pairs)."
            )

    def detach(self) -> "Conditionals":
        """Return a copy whose tensors carry no gradient: the model as the guide's fixed target."""
        return Conditionals(
            detach(self.weights),
            detach(self.features),
            self.reward.detach(),
            None if self.ratings is None else self.ratings.detach(),
            self.likelihood.detach(),
        )

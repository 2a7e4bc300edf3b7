"""Objective ``pairwise``: composite of the pairs' marginal likelihoods under p_theta."""

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.conjugate import rating_log_prob
from vrm_pyro.models.likelihoods import GaussianDelta, root
from vrm_pyro.models.objectives.base import Objective, Terms, Weights
from vrm_pyro.models.objectives.integrated import IntegratedObjective
from vrm_pyro.models.objectives.sampled import SampledObjective
from vrm_pyro.models.reward import delta_given_weights
from vrm_pyro.models.vrm import VRM


def pair_log_prob(
    batch: FeatureBatch, conditionals: Conditionals, num_draws: int
) -> Float[Tensor, " pairs"]:
    """Return log E_{p_theta} p(c | Delta) of every pair on its own (spec 2.6)."""
    conditionals.check_pairs_alone(batch, "objective pairwise")
    gaussian = conditionals.gaussian
    first, second = batch.pair_first, batch.pair_second
    w = conditionals.weights.rsample(torch.Size([num_draws]))
    mean, var = delta_given_weights(
        w[:, batch.pair_prompt], gaussian.rows(first), gaussian.rows(second), conditionals.reward
    )
    distribution = GaussianDelta(
        mean, root(var), conditionals.likelihood, margin=batch.pair_margin, validate_args=False
    )
    log_prob = distribution.log_prob(batch.preference)
    return torch.logsumexp(log_prob, dim=0) - math.log(num_draws)


class PairwiseObjective(Objective):
    """Composite likelihood: sum over pairs of log p_theta(c | x, y), plus the rating evidence.

    Source: spec 2.6.

    It directly trains the distribution that predicts on new text, but does not bound the joint
    evidence once pairs share w or z. The guide is trained at the same time on the integrated
    ELBO with a detached model, so posteriors given outcomes are available as with any objective.

    Args:
        num_draws: Draws of w per prompt.
        guide_draws: Draws of w per prompt for the guide.
    """

    name: ClassVar[str] = "pairwise"
    bound: ClassVar[str] = "composite likelihood: no bound on the joint evidence"
    supports_tempering: ClassVar[bool] = False
    supports_free_bits: ClassVar[bool] = False
    outcome_aware_only: ClassVar[bool] = True

    def __init__(self, num_draws: int = 16, guide_draws: int = 1) -> None:
        super().__init__()
        self.num_draws = num_draws
        self.guide_objective = IntegratedObjective(guide_draws)
        self.sampled_objective = SampledObjective(4 * guide_draws)

    def terms(
        self,
        model: VRM,
        guide: nn.Module,
        batch: FeatureBatch,
        conditionals: Conditionals,
        weights: Weights,
    ) -> Terms:
        """Return the composite likelihood; ``elbo`` of the result is the guide's bound."""
        composite = (batch.pair_weight * pair_log_prob(batch, conditionals, self.num_draws)).sum()
        if conditionals.ratings is not None and batch.has_ratings:
            composite = composite + rating_log_prob(batch, conditionals).sum()
        # Pair terms have no closed form under a flow, so a flow guide trains on draws.
        objective = self.guide_objective if model.guide.gaussian else self.sampled_objective
        fixed = objective.terms(model, guide, batch, conditionals.detach(), Weights())
        # The second term has value 0 and gradients for the guide only.
        return Terms(
            composite + fixed.objective - fixed.objective.detach(),
            fixed.preference,
            fixed.rating,
            fixed.kl_weights,
            fixed.kl_features,
        )

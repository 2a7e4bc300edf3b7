"""Objective ``integrated``: z integrated in closed form or by quadrature, w drawn."""

from dataclasses import replace
from typing import ClassVar

import torch
import torch.distributions as dist
from jaxtyping import Float
from torch import Tensor, nn

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.distributions import as_gaussian
from vrm_pyro.models.likelihoods.weight_supervision import weight_targets
from vrm_pyro.models.objectives.base import Objective, Terms, Weights, charged, kl_terms
from vrm_pyro.models.reward import delta_given_weights
from vrm_pyro.models.vrm import VRM


def expected_preference(
    batch: FeatureBatch,
    conditionals: Conditionals,
    q_features: dist.Distribution,
    nodes: Float[Tensor, "draws prompts objectives"],
    log_mass: Float[Tensor, "draws ..."],
) -> Float[Tensor, " pairs"]:
    """Return E_q log p(c | Delta) of every pair (spec 2.6).

    Given w, Delta is exactly Normal under a Gaussian q(z), so only w needs nodes.

    Args:
        batch: Standardised batch.
        conditionals: Its conditionals.
        q_features: q(z), Gaussian, batch (R,).
        nodes: Values of w, shape (S, P, K): draws in training, quadrature nodes in tests.
        log_mass: Log weights of the nodes, shape (S,) or (S, P); -log S for draws.
    """
    conditionals.check_pairs_alone(batch, "the integrated expectation")
    gaussian = as_gaussian(q_features)
    pair_prompt = batch.pair_prompt
    mean, var = delta_given_weights(
        nodes[:, pair_prompt],
        gaussian.rows(batch.pair_first),
        gaussian.rows(batch.pair_second),
        conditionals.reward,
    )
    likelihood = conditionals.likelihood.given_margin(batch.pair_margin)
    value = likelihood.expected_log_prob(mean, var, batch.preference)
    mass = log_mass.exp()
    mass = mass.unsqueeze(-1) if mass.dim() == 1 else mass[:, pair_prompt]
    return (mass * value).sum(0)


def expected_rating(
    batch: FeatureBatch, conditionals: Conditionals, q_features: dist.Distribution
) -> Tensor:
    """Return lambda E_q log p(y | s) of every response (spec 2.6), (R,); 0 without ratings."""
    gaussian = as_gaussian(q_features)
    if conditionals.ratings is None or batch.ratings.shape[-1] == 0:
        return gaussian.loc.new_zeros(batch.num_responses)
    return conditionals.ratings.expected_log_prob(
        batch,
        conditionals.reward.scores(gaussian.loc),
        gaussian.mapped_variance(conditionals.reward.loading),
    )


def integrated_terms(
    batch: FeatureBatch,
    conditionals: Conditionals,
    q_weights: dist.Distribution,
    q_features: dist.Distribution,
    nodes: Tensor,
    log_mass: Tensor,
    weights: Weights,
) -> Terms:
    """Return the integrated ELBO of any q(w) q(z), given nodes of w (spec 2.6)."""
    pair_log_prob = expected_preference(batch, conditionals, q_features, nodes, log_mass)
    preference = (batch.pair_weight * pair_log_prob).sum()
    rating = expected_rating(batch, conditionals, q_features).sum()
    kl_w, kl_z = kl_terms(q_weights, q_features, conditionals)
    charge = charged(kl_w, weights.kl_weights, weights.free_weights) + charged(
        kl_z, weights.kl_features, weights.free_features
    )
    return Terms(preference + rating - charge, preference, rating, kl_w.sum(), kl_z.sum())


class IntegratedObjective(Objective):
    """ELBO with z integrated out: ``sampled`` in expectation, less gradient noise (spec 2.6).

    Equal up to the quadrature of E log p(c | Delta) over z.

    Args:
        num_draws: Draws of w per prompt and step.
    """

    name: ClassVar[str] = "integrated"
    bound: ClassVar[str] = "lower bound on the joint evidence of preferences and ratings"

    def __init__(self, num_draws: int = 4) -> None:
        super().__init__()
        self.num_draws = num_draws

    def terms(
        self,
        model: VRM,
        guide: nn.Module,
        batch: FeatureBatch,
        conditionals: Conditionals,
        weights: Weights,
    ) -> Terms:
        """Draw w from the guide and integrate over z."""
        q_weights, q_features = model.guide.posterior(batch, conditionals)
        nodes = q_weights.rsample(torch.Size([self.num_draws]))
        log_mass = nodes.new_full((self.num_draws,), 1 / self.num_draws).log()
        terms = integrated_terms(
            batch, conditionals, q_weights, q_features, nodes, log_mass, weights
        )
        if model.weight_power == 0:
            return terms
        target, present = weight_targets(batch, model.rating_loc, model.rating_scale)
        per_prompt = model.weight_supervision.score(q_weights, target)
        supervised = model.weight_power * torch.where(present, per_prompt, 0.0).sum()
        return replace(
            terms, objective=terms.objective + supervised, rating=terms.rating + supervised
        )

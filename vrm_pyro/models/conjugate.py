"""Gaussian algebra between semantic features and ratings."""

from typing import Final

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.ratings import GaussianValues

# Steps of the update where ratings are not Gaussian; each is a Fisher-scoring step of the mode.
SCORING_STEPS: Final = 3


def rating_update(
    batch: FeatureBatch, conditionals: Conditionals
) -> tuple[Float[Tensor, "responses features"], Float[Tensor, "responses features features"]]:
    """Return natural mean and precision of z given its ratings (spec 2.7).

    Precision = Sigma_p^-1 + A' diag(t) A with the ratings' precision t about each score, which is
    lambda m / tau^2 for Gaussian ratings: exact then, and without ratings the prior's own. Other
    ratings enter by the curvature at the mode.

    Returns:
        Precision times mean, and precision.
    """
    prior_natural, prior_precision = conditionals.gaussian.natural()
    if conditionals.ratings is None or batch.ratings.shape[-1] == 0:
        return prior_natural, prior_precision
    loading = conditionals.reward.loading
    outer = loading.unsqueeze(-1) * loading.unsqueeze(-2)  # (K, d_z, d_z)
    natural, precision, loc = prior_natural, prior_precision, conditionals.gaussian.loc
    for step in range(1 if conditionals.ratings.conjugate else SCORING_STEPS):
        if step:
            loc = torch.linalg.solve(precision, natural.unsqueeze(-1)).squeeze(-1)
        scores = conditionals.reward.scores(loc)
        weight, target = conditionals.ratings.site(batch, scores)  # (R, K) each
        natural = prior_natural + (weight * (target - conditionals.reward.intercept)) @ loading
        precision = prior_precision + torch.einsum("rk,kde->rde", weight, outer)
    return natural, precision


def features_given_ratings(
    batch: FeatureBatch, conditionals: Conditionals
) -> tuple[Float[Tensor, "responses features"], Float[Tensor, "responses features features"]]:
    """Return mean and covariance of z given its ratings."""
    natural, precision = rating_update(batch, conditionals)
    covariance = torch.linalg.inv(precision)
    return (covariance @ natural.unsqueeze(-1)).squeeze(-1), covariance


def marginal_ratings(
    batch: FeatureBatch, conditionals: Conditionals
) -> tuple[dist.LowRankMultivariateNormal, Tensor]:
    """Return p(ratings | x, y), z integrated out, and the tempering term, (R,) (spec 2.13)."""
    assert isinstance(conditionals.ratings, GaussianValues)
    prior = conditionals.gaussian
    factor = prior.factor(conditionals.reward.loading)
    return conditionals.ratings.marginal(
        batch.rating_mask, conditionals.reward.scores(prior.loc), factor
    )


def rating_evidence(
    batch: FeatureBatch, conditionals: Conditionals
) -> Float[Tensor, " responses"]:
    """Return the log of the (tempered) evidence of each response's ratings."""
    distribution, correction = marginal_ratings(batch, conditionals)
    observed = torch.where(batch.rating_mask, batch.ratings, distribution.loc)
    return distribution.log_prob(observed) + correction


def rating_log_prob(
    batch: FeatureBatch, conditionals: Conditionals
) -> Float[Tensor, " responses"]:
    """Return what the ratings of each response add to a composite likelihood.

    The evidence of Gaussian ratings; of others, every rating alone with its score integrated out.
    """
    assert conditionals.ratings is not None
    if conditionals.ratings.conjugate:
        return rating_evidence(batch, conditionals)
    prior = conditionals.gaussian
    return conditionals.ratings.composite_log_prob(
        batch,
        conditionals.reward.scores(prior.loc),
        prior.mapped_variance(conditionals.reward.loading),
    )

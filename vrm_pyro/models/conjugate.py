"""Conjugate Gaussian updates of semantic features by ratings."""

from typing import Final

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.ratings import GaussianValues

# Number of Fisher-scoring steps towards the mode where ratings are not Gaussian.
SCORING_STEPS: Final = 3


def rating_update(
    batch: FeatureBatch, conditionals: Conditionals
) -> tuple[Float[Tensor, "responses features"], Float[Tensor, "responses features features"]]:
    """Return natural mean and precision of z given its ratings (spec 2.7).

    The precision is Sigma_p^-1 + A' diag(t) A, with t the precision of the ratings about each
    score. Gaussian ratings have t = lambda m / tau^2, and the result is exact; other ratings
    enter by their curvature at the mode. Without ratings it is the prior.

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
    """Return mean and covariance of z given its ratings (spec 2.7)."""
    natural, precision = rating_update(batch, conditionals)
    covariance = torch.linalg.inv(precision)
    return (covariance @ natural.unsqueeze(-1)).squeeze(-1), covariance


def marginal_ratings(
    batch: FeatureBatch, conditionals: Conditionals
) -> tuple[dist.LowRankMultivariateNormal, Tensor]:
    """Return p(ratings | x, y) with z integrated out, and the tempering term (R,) (spec 2.13)."""
    assert isinstance(conditionals.ratings, GaussianValues)
    prior = conditionals.gaussian
    factor = prior.factor(conditionals.reward.loading)
    return conditionals.ratings.marginal(
        batch.rating_mask, conditionals.reward.scores(prior.loc), factor
    )


def rating_evidence(
    batch: FeatureBatch, conditionals: Conditionals
) -> Float[Tensor, " responses"]:
    """Return the log evidence of each response's ratings, tempered by lambda (spec 2.13)."""
    distribution, correction = marginal_ratings(batch, conditionals)
    observed = torch.where(batch.rating_mask, batch.ratings, distribution.loc)
    return distribution.log_prob(observed) + correction


def rating_log_prob(
    batch: FeatureBatch, conditionals: Conditionals
) -> Float[Tensor, " responses"]:
    """Return the rating term of each response in a composite likelihood (spec 2.6).

    Gaussian ratings give their joint evidence. Other ratings give the sum of their marginal log
    likelihoods, each with its score integrated out.
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

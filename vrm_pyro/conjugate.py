"""Exact Gaussian algebra between semantic features and ratings."""

import pyro.distributions as dist
import torch
from torch import Tensor

from vrm_pyro.batch import FeatureBatch
from vrm_pyro.heads import Heads


def rating_update(batch: FeatureBatch, heads: Heads) -> tuple[Tensor, Tensor]:
    """Return natural mean and precision of z given its ratings (spec 2.7).

    Precision = diag(1 / sd^2) + lambda A' diag(m / tau^2) A; without ratings, the prior's own.

    Returns:
        precision times mean, shape (R, d_z), and precision, shape (R, d_z, d_z).
    """
    prior = heads.features.base_dist
    inverse = prior.scale**-2
    natural, precision = inverse * prior.loc, torch.diag_embed(inverse)
    if heads.ratings is None or batch.ratings.shape[-1] == 0:
        return natural, precision
    loading = heads.reward.loading
    weight = heads.ratings.precision(batch.rating_mask)  # (R, K)
    residual = heads.ratings.residual(batch.ratings, heads.reward.intercept)
    outer = loading.unsqueeze(-1) * loading.unsqueeze(-2)  # (K, d_z, d_z)
    return (
        natural + (weight * residual) @ loading,
        precision + torch.einsum("rk,kde->rde", weight, outer),
    )


def features_given_ratings(batch: FeatureBatch, heads: Heads) -> tuple[Tensor, Tensor]:
    """Return mean, shape (R, d_z), and covariance, (R, d_z, d_z), of z given its ratings."""
    natural, precision = rating_update(batch, heads)
    covariance = torch.linalg.inv(precision)
    return (covariance @ natural.unsqueeze(-1)).squeeze(-1), covariance


def marginal_ratings(
    batch: FeatureBatch, heads: Heads
) -> tuple[dist.LowRankMultivariateNormal, Tensor]:
    """Return p(ratings | x, y), z integrated out, and the tempering term, (R,) (spec 2.13)."""
    assert heads.ratings is not None
    prior = heads.features.base_dist
    factor = heads.reward.loading * prior.scale.unsqueeze(-2)  # A diag(sd), (R, K, d_z)
    return heads.ratings.marginal(batch.rating_mask, heads.reward.scores(prior.loc), factor)


def rating_evidence(batch: FeatureBatch, heads: Heads) -> Tensor:
    """Return the log of the (tempered) evidence of each response's ratings, shape (R,)."""
    law, correction = marginal_ratings(batch, heads)
    observed = torch.where(batch.rating_mask, batch.ratings, law.loc)
    return law.log_prob(observed) + correction

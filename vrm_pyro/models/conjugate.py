"""Conjugate Gaussian updates of semantic features by ratings."""

from typing import Final, NamedTuple

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.ratings import GaussianValues, SharedLevelValues

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


class SharedLevelUpdate(NamedTuple):
    """z of a prompt's responses given all its ratings, which share levels (spec 2.7).

    Given standardised levels v, responses are independent: z ~ N(loc + slope v, covariance).

    Attributes:
        log_evidence: log p(ratings | texts)^lambda of each prompt, shape (P,).
        levels: p(v | ratings), batch (P,), event (K,).
        loc: Shape (R, d_z).
        slope: Shape (R, d_z, K).
        covariance: Shape (R, d_z, d_z).
    """

    log_evidence: Tensor
    levels: dist.MultivariateNormal
    loc: Tensor
    slope: Tensor
    covariance: Tensor

    def features(self, levels: Tensor, batch: FeatureBatch) -> tuple[Tensor, Tensor]:
        """Return mean (S, R, d_z) and covariance of z given draws of the levels, (S, P, K)."""
        moved = torch.einsum("rdk,srk->srd", self.slope, levels[:, batch.response_prompt])
        return self.loc + moved, self.covariance


def shared_level_update(batch: FeatureBatch, conditionals: Conditionals) -> SharedLevelUpdate:
    """Return the exact update of all responses of a prompt by ratings with a shared level.

    Scores of a prompt have the precision diag(t) - u u' of each objective. With T of each
    response from t alone and W = A' diag(u), the precision of all z is diag(T) - W W', which is
    inverted by matrices of K rows a prompt.
    """
    ratings, reward, prior = conditionals.ratings, conditionals.reward, conditionals.gaussian
    assert isinstance(ratings, SharedLevelValues)
    scores = reward.scores(prior.loc)
    weight, shared = ratings.coupling(batch)
    site_precision, target = ratings.site(batch, scores)
    slope_of_log_prob = (site_precision * (target - scores)) @ reward.loading
    prior_precision = prior.natural()[1]
    outer = reward.loading.unsqueeze(-1) * reward.loading.unsqueeze(-2)
    factor = torch.linalg.cholesky(prior_precision + torch.einsum("rk,kde->rde", weight, outer))
    coupled = reward.loading.T * shared.unsqueeze(-2)  # W, (R, d_z, K)
    slope = torch.cholesky_solve(coupled, factor)
    moved = torch.cholesky_solve(slope_of_log_prob.unsqueeze(-1), factor).squeeze(-1)

    def by_prompt(value: Tensor) -> Tensor:
        zero = value.new_zeros(batch.num_prompts, *value.shape[1:])
        return zero.index_add(0, batch.response_prompt, value)

    identity = torch.eye(shared.shape[-1]).to(shared)
    levels = torch.linalg.cholesky(identity - by_prompt(coupled.mT @ slope))
    projected = by_prompt((coupled.mT @ moved.unsqueeze(-1)).squeeze(-1))
    centre = torch.cholesky_solve(projected.unsqueeze(-1), levels).squeeze(-1)
    square = by_prompt((slope_of_log_prob * moved).sum(-1)) + (projected * centre).sum(-1)
    log_det = by_prompt(_log_det(factor) - torch.linalg.slogdet(prior_precision)[1])
    at_prior = ratings.given_scores(scores, batch).log_prob(batch.ratings)
    log_evidence = ratings.power * by_prompt(at_prior)
    log_evidence = log_evidence + 0.5 * (square - log_det - _log_det(levels))
    return SharedLevelUpdate(
        log_evidence,
        dist.MultivariateNormal(centre, precision_matrix=levels @ levels.mT),
        prior.loc + moved,
        slope,
        torch.cholesky_inverse(factor),
    )


def _log_det(factor: Tensor) -> Tensor:
    """Return log |L L'| of Cholesky factors L."""
    return 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


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

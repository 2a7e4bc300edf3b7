"""Log scores of ratings on new text: how well a model foretells them."""

import copy
import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from pyro.distributions import Distribution
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.distributions.gaussian import as_gaussian
from vrm_pyro.models.ensemble import latent_members
from vrm_pyro.models.epistemic.shrinkage import ShrinkagePosterior, features_beside
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.models.vrm import VRM


class RatingScores(NamedTuple):
    """Log scores of the ratings of a batch.

    Attributes:
        log_prob: log p(y | texts) of each rating with everything latent integrated out, in nats
            and in the standardised unit of ratings, shape (R, K); 0 where nothing counts.
        counts: Which ratings count: those observed, and of differences those with another rating
            of their prompt, shape (R, K).
    """

    log_prob: Float[Tensor, "responses objectives"]
    counts: Bool[Tensor, "responses objectives"]


def rating_scores(model: RewardModel, batch: FeatureBatch) -> RatingScores:
    """Return the log score of each observed rating, from the texts alone.

    Each rating by itself: log of the mean over members and draws of the parameters of
    E p(y | s), s Gaussian given the text, without the power lambda, which weighs ratings in
    training alone. Ratings that share a level of their prompt score together, each by its share
    of the log density of all R, or of the R - 1 differences where levels are free.

    Source: the marginal likelihoods of spec 2.6, at lambda = 1.

    Args:
        model: A model whose scores are ratings.
        batch: Raw states, with standardised ratings.
    """
    members = latent_members(model)
    assert members[0].ratings is not None
    draws = [found for member in members for found in _draws(member, batch)]
    log_prob = torch.logsumexp(torch.stack(draws), 0) - math.log(len(draws))
    counts = members[0].ratings().informs(batch)
    return RatingScores(torch.where(counts, log_prob, torch.zeros_like(log_prob)), counts)


def _draws(model: VRM, batch: FeatureBatch) -> list[Tensor]:
    def score(features: Distribution) -> Tensor:
        assert model.ratings is not None
        values = copy.copy(model.ratings())
        object.__setattr__(values, "power", 1.0)  # values may be frozen
        latents = as_gaussian(features)
        reward = model.reward()
        loc, variance = reward.scores(latents.loc), latents.mapped_variance(reward.loading)
        return values.each_log_prob(batch, loc, variance)

    if isinstance(model.parameter_posterior, ShrinkagePosterior):
        return [score(features_beside(model, model.standardize(batch)))]
    return model.over_parameters(lambda: score(model.predictive_features(batch.responses)))

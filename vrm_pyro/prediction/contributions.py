"""What each objective adds to the expected reward of a response on new text."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.distributions import weight_moments
from vrm_pyro.models.ensemble import latent_members
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.latent_predictions import Latents
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.models.vrm import VRM


class Contributions(NamedTuple):
    """Expected parts of the reward r = beta w's, w and z independent given the text.

    With a Bayesian head each is a mean over the same draws of the parameters that predictions
    average, or exact where these are, and in an ensemble over its members, so that the parts add
    up to the reward that the model reports.

    Attributes:
        parts: E[beta w_k s_k], shape (R, K), in reward units: their sum over k is E[r]. Levels are
            not identified: take differences between responses to one prompt.
        slopes: E[beta s_k], (R, K): how fast E[r] rises with a shift of w_k.
        leverage: E[beta w_k], (P, K): how fast E[r] rises with s_k.
        weights: E[w_k], (P, K).
        weights_sd: Standard deviation of w_k, (P, K), the parameters' part included.
        weights_epistemic: Standard deviation of E[w_k | parameters] over the posterior of
            the parameters and over members, (P, K); 0 for a single model without a Bayesian head.
    """

    parts: Float[Tensor, "responses objectives"]
    slopes: Float[Tensor, "responses objectives"]
    leverage: Float[Tensor, "prompts objectives"]
    weights: Float[Tensor, "prompts objectives"]
    weights_sd: Float[Tensor, "prompts objectives"]
    weights_epistemic: Float[Tensor, "prompts objectives"]


def contributions(model: RewardModel, batch: FeatureBatch) -> Contributions:
    """Return what each objective adds to the expected reward of every response.

    Args:
        model: A model with latent variables.
        batch: Raw states; pairs, preferences and ratings are not read.
    """
    with evaluation_mode(model):
        found = [
            [model.aligned(m, part) for part in _of_member(member, batch)]
            for m, member in enumerate(latent_members(model))
        ]
    parts, slopes, leverage, weights, variance, epistemic = _mixed(found)
    sd = (variance + epistemic).sqrt()
    return Contributions(parts, slopes, leverage, weights, sd, epistemic.sqrt())


def _of_member(model: VRM, batch: FeatureBatch) -> list[Tensor]:
    return _mixed(model.over_latents(batch, lambda latents: _at_parameters(model, batch, latents)))


def _mixed(found: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return means over equally likely parameters or members; the last is epistemic variance."""
    *means, weights, variance, epistemic = (torch.stack(same) for same in zip(*found, strict=True))
    between = weights.var(0) if len(found) > 1 else torch.zeros_like(variance[0])
    mean = [part.mean(0) for part in (*means, weights, variance)]
    return [*mean, epistemic.mean(0) + between]


def _at_parameters(model: VRM, batch: FeatureBatch, latents: Latents) -> tuple[Tensor, ...]:
    reward = model.reward()
    # In float64: decisions depend on small differences between larger sums.
    moments = weight_moments(latents.weights)
    weights = moments.mean.double()
    slopes = reward.scale.double() * reward.scores(latents.features.loc).double()
    parts = weights[batch.response_prompt] * slopes
    variance = moments.covariance.diagonal(dim1=-2, dim2=-1).double()
    leverage = reward.scale.double() * weights
    return parts, slopes, leverage, weights, variance, torch.zeros_like(variance)

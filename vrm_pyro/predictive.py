"""Predictions on new text: closed-form moments and integrated preference probabilities."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import pyro.distributions as dist
import torch
from scipy.special import gammaincinv
from scipy.stats import qmc
from torch import Tensor

from vrm_pyro.likelihood import expect_normal
from vrm_pyro.likelihood.base import PreferenceLikelihood
from vrm_pyro.reward import Moments, RewardParameters, delta_given_weights

# 64 draws of w are enough once z is integrated (spec 2.9).
NUM_DRAWS: Final = 64


@dataclass(frozen=True)
class ResponsePrediction:
    """What a model says of responses on their own.

    Args:
        reward: Moments of the reward, each (R,).
        weight_mean: E[w | prompt], shape (R, K); None for a model without weights.
        score_mean: E[s | prompt, response], shape (R, K), in standardised rating units.
        score_sd: Standard deviation of s, shape (R, K).
    """

    reward: Moments
    weight_mean: Tensor | None = None
    score_mean: Tensor | None = None
    score_sd: Tensor | None = None


@lru_cache(maxsize=8)
def _uniforms(num_draws: int, num_objectives: int) -> np.ndarray:
    points = qmc.Sobol(num_objectives, scramble=True, rng=20260304).random(num_draws)
    return np.clip(points, 1e-9, 1 - 1e-9)


def dirichlet_nodes(concentration: Tensor, num_draws: int = NUM_DRAWS) -> Tensor:
    """Return fixed quasi-random draws of w, shape (S, P, K), for concentrations (P, K).

    Scrambled Sobol points through the inverse CDF of the gamma variables of a Dirichlet. The
    points are the same for every prompt and call, so a score depends on its text alone: not on
    batch mates, order or a seed. Meant for prediction; it carries no gradient.
    """
    num_objectives = concentration.shape[-1]
    alpha = concentration.detach().double().cpu().numpy()
    gamma = gammaincinv(alpha, _uniforms(num_draws, num_objectives)[:, None, :])
    gamma = np.maximum(gamma, np.finfo(np.float64).tiny)
    return torch.from_numpy(gamma / gamma.sum(-1, keepdims=True)).to(concentration)


def preference_probability(
    weights: dist.Dirichlet,
    features: dist.Independent,
    pairs: tuple[Tensor, Tensor, Tensor],
    reward: RewardParameters,
    likelihood: PreferenceLikelihood,
    num_draws: int = NUM_DRAWS,
) -> Tensor:
    """Return p(first preferred) with w and z integrated out, shape (N,) (spec 2.9).

    The mean over draws of w of the Gauss-Hermite expectation over Delta given w. Never
    sigmoid(E Delta), which is overconfident.

    Args:
        weights: Law of w, batch (P,).
        features: Law of z, diagonal Normal, batch (R,).
        pairs: Prompt row, first and second response row of every pair, each (N,).
        reward: Parameters of the reward function.
        likelihood: Preference likelihood.
        num_draws: Draws of w.
    """
    prompt, first, second = pairs
    loc, variance = features.base_dist.loc, features.base_dist.scale**2
    nodes = dirichlet_nodes(weights.concentration, num_draws)
    mean, var = delta_given_weights(
        nodes[:, prompt],
        (loc[first], loc[second]),
        (variance[first], variance[second]),
        reward,
    )
    return expect_normal(likelihood.probability, mean, var).mean(0)


def count_active(mean: Tensor, threshold: float) -> int:
    """Return how many units have a predictive mean whose variance over rows is above a threshold.

    Args:
        mean: E[unit | text], shape (rows, units).
        threshold: Smallest variance that counts.
    """
    if mean.shape[0] < 2:
        return 0
    return int((mean.var(0) > threshold).sum())

"""How much latents depend on the text: KL from a fixed reference, and what counts as active."""

from typing import Final

import pyro.distributions as pyro_dist
import torch
import torch.distributions as dist
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.models.distributions import divergence, to_double

FEATURE_THRESHOLD: Final = 0.01
"""Least variance over responses of E[z_d | x, y] (spec 4.10): 1% of the variance of N(0, 1)."""


def weight_threshold(num_objectives: int) -> float:
    """Return the least variance over prompts of E[w_k | x] that counts as active.

    1% of the variance of w_k under Dir(1), (K - 1) / (K^2 (K + 1)), as 0.01 is for the features
    under N(0, 1): a standard deviation of a tenth of the prior's. A fixed 0.01 would mean a
    quarter of the prior's variance for 4 objectives, and twice the prior's for 13.

    >>> weight_threshold(4)
    0.000375
    """
    k = num_objectives
    return 0.01 * (k - 1) / (k**2 * (k + 1))


def kl_weights(weights: dist.Distribution) -> Float[Tensor, " prompts"]:
    """Return KL(p(w | x) || Dir(1)) of every prompt, in nats.

    Not KL(q(w | outcomes) || p(w | x)), which measures how much the labels add to the text. In
    float64: with large concentrations the float32 value is the difference of large numbers.
    """
    flat = torch.ones_like(weights.mean)
    if flat.shape[-1] == 1:  # Dir(1) of one objective is the point mass at 1, too
        return torch.zeros_like(flat[..., 0], dtype=torch.float64)
    return _from_reference(weights, dist.Dirichlet(flat))


def kl_features(features: dist.Distribution) -> Float[Tensor, " responses"]:
    """Return KL(p(z | x, y) || N(0, I)) of every response, in nats."""
    zero = torch.zeros_like(features.mean)
    return _from_reference(features, pyro_dist.Normal(zero, 1 + zero).to_event(1))


def _from_reference(distribution: dist.Distribution, reference: dist.Distribution) -> Tensor:
    distribution, reference = to_double(distribution), to_double(reference)
    if isinstance(distribution, pyro_dist.Delta):  # infinitely far from any density
        return torch.full_like(distribution.v[..., 0], torch.inf)
    return divergence(distribution, reference)

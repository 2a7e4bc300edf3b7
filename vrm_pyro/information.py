"""How much latents depend on the text: KL from a fixed reference, and what counts as active."""

from typing import Final

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import kl_divergence

FEATURE_THRESHOLD: Final = 0.01
"""Least variance over responses of E[z_d | x, y] (spec 4.10): 1% of the variance of N(0, 1)."""


def weight_threshold(num_objectives: int) -> float:
    """Return the least variance over prompts of E[w_k | x] that counts as active.

    1% of the variance of w_k under Dir(1), (K - 1) / (K^2 (K + 1)), as 0.01 is for the features
    under N(0, 1): a standard deviation of a tenth of the prior's. A fixed 0.01 would mean a
    quarter of the prior's variance for 4 objectives, and twice the prior's for 13.
    """
    k = num_objectives
    return 0.01 * (k - 1) / (k**2 * (k + 1))


def kl_weights(weights: dist.Dirichlet) -> Tensor:
    """Return KL(p(w | x) || Dir(1)) of every prompt, shape (P,), in nats.

    Not KL(q(w | outcomes) || p(w | x)), which says how much the labels add to the text. In
    float64: with large concentrations the float32 value is the difference of large numbers.
    """
    concentration = weights.concentration.double()
    return kl_divergence(
        dist.Dirichlet(concentration), dist.Dirichlet(torch.ones_like(concentration))
    )


def kl_features(features: dist.Independent) -> Tensor:
    """Return KL(p(z | x, y) || N(0, I)) of every response, shape (R,), in nats."""
    loc, scale = features.base_dist.loc.double(), features.base_dist.scale.double()
    reference = dist.Normal(torch.zeros_like(loc), torch.ones_like(scale)).to_event(1)
    return kl_divergence(dist.Normal(loc, scale).to_event(1), reference)

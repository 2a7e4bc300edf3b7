"""Linear scores and the reward they combine to, with closed-form moments."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class RewardParameters:
    """Values of the reward function on one step (spec 2.1).

    Args:
        loading: A, shape (K, d_z).
        intercept: b, shape (K,).
        scale: beta > 0, a scalar tensor.
    """

    loading: Tensor
    intercept: Tensor
    scale: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Return s = A z + b, shape (..., K), for features (..., d_z)."""
        return features @ self.loading.T + self.intercept

    def score_variance(self, variance: Tensor) -> Tensor:
        """Return diag(A diag(variance) A'), shape (..., K), for diagonal variances (..., d_z)."""
        return variance @ (self.loading**2).T

    def delta(self, weights: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return Delta = beta w'(s_first - s_second), shape (..., N), for scores (..., N, K)."""
        return self.scale * (weights * (first - second)).sum(-1)


class LinearReward(nn.Module):
    """r = beta w'(A z + b): weights combine named scores (spec 2.3, the default).

    Args:
        num_objectives: K.
        latent_dim: d_z.
        identity: Fix A to the identity: the features are the scores (needs d_z = K).
        learn_scale: Whether beta is learned. Without ratings beta and A are one parameter
            (spec 2.8.2), so beta stays 1.
        initial_scale: beta at the start.
    """

    loading: Tensor
    log_scale: Tensor

    def __init__(
        self,
        num_objectives: int,
        latent_dim: int,
        identity: bool = False,
        learn_scale: bool = True,
        initial_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if identity:
            if latent_dim != num_objectives:
                raise ValueError(
                    f"scores 'identity' needs latent_dim ({latent_dim}) equal to the number of "
                    f"objectives ({num_objectives}). Set model.latent_dim to {num_objectives}."
                )
            self.register_buffer("loading", torch.eye(num_objectives))
        else:
            self.loading = nn.Parameter(torch.randn(num_objectives, latent_dim) / latent_dim**0.5)
        self.intercept = nn.Parameter(torch.zeros(num_objectives))
        log_scale = torch.tensor(math.log(initial_scale))
        if learn_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    def forward(self) -> RewardParameters:
        """Return the parameters' current values."""
        return RewardParameters(self.loading, self.intercept, self.log_scale.exp())


class Moments(NamedTuple):
    """Mean and variance of a reward or of a reward difference, the variance in three parts.

    Attributes:
        mean: Expected value, in reward units.
        variance: Total variance; the sum of the three parts.
        from_weights: s' C_w s: not knowing which objectives count.
        from_features: m' S m: not knowing how good the response is.
        interaction: tr(C_w S).
    """

    mean: Tensor
    variance: Tensor
    from_weights: Tensor
    from_features: Tensor
    interaction: Tensor


def _moments(
    scale: Tensor, weight_mean: Tensor, total: Tensor, score: Tensor, loading: Tensor, var: Tensor
) -> Moments:
    """Combine the formulas of spec 2.9 for one score vector with covariance A diag(var) A'."""
    expected = (weight_mean * score).sum(-1)
    # C_w = (diag m - m m') / (alpha_0 + 1), exact for a Dirichlet.
    # Centred first: E s^2 - (E s)^2 in float32 comes out negative for nearly equal scores.
    centred = score - expected.unsqueeze(-1)
    from_weights = (weight_mean * centred**2).sum(-1) / (total + 1)
    projected = weight_mean @ loading  # A'm, shape (..., d_z)
    from_features = (projected**2 * var).sum(-1)
    diagonal = (weight_mean * (var @ (loading**2).T)).sum(-1)
    interaction = (diagonal - from_features) / (total + 1)
    square = scale**2
    return Moments(
        scale * expected,
        square * (from_weights + from_features + interaction),
        square * from_weights,
        square * from_features,
        square * interaction,
    )


def reward_moments(
    concentration: Tensor, loc: Tensor, scale: Tensor, reward: RewardParameters
) -> Moments:
    """Return the moments of r = beta w'(A z + b) (spec 2.9).

    Args:
        concentration: alpha of the Dirichlet over w, one row a response, shape (R, K).
        loc: Mean of z, shape (R, d_z).
        scale: Standard deviation of z, shape (R, d_z).
        reward: Parameters of the reward function.

    Returns:
        Moments, each of shape (R,). Levels carry a per-prompt constant that no preference
        identifies (spec 2.8.1): compare rewards of one prompt only.
    """
    total = concentration.sum(-1)
    mean = concentration / total.unsqueeze(-1)
    return _moments(reward.scale, mean, total, reward.scores(loc), reward.loading, scale**2)


def delta_moments(
    concentration: Tensor,
    locs: tuple[Tensor, Tensor],
    scales: tuple[Tensor, Tensor],
    reward: RewardParameters,
) -> Moments:
    """Return the moments of Delta = r_first - r_second with shared w (spec 2.9).

    Args:
        concentration: alpha of the pair's prompt, shape (N, K).
        locs: Means of z of the first and the second response, each (N, d_z).
        scales: Standard deviations likewise.
        reward: Parameters of the reward function.
    """
    total = concentration.sum(-1)
    mean = concentration / total.unsqueeze(-1)
    difference = (locs[0] - locs[1]) @ reward.loading.T
    variance = scales[0] ** 2 + scales[1] ** 2
    return _moments(reward.scale, mean, total, difference, reward.loading, variance)


def reward_covariance(
    concentration: Tensor, locs: tuple[Tensor, Tensor], reward: RewardParameters
) -> Tensor:
    """Return Cov(r_first, r_second) = beta^2 s_first' C_w s_second, shape (N,) (spec 2.9)."""
    total = concentration.sum(-1)
    mean = concentration / total.unsqueeze(-1)
    first, second = reward.scores(locs[0]), reward.scores(locs[1])
    centred = first - (mean * first).sum(-1, keepdim=True)
    return reward.scale**2 * (mean * centred * second).sum(-1) / (total + 1)


def delta_given_weights(
    weights: Tensor,
    locs: tuple[Tensor, Tensor],
    variances: tuple[Tensor, Tensor],
    reward: RewardParameters,
) -> tuple[Tensor, Tensor]:
    """Return mean and variance of Delta given w: exactly Normal once z is Gaussian (spec 2.6).

    Args:
        weights: w of each pair's prompt, shape (..., N, K); leading dimensions are draws.
        locs: Means of z, each (N, d_z).
        variances: Variances of z, each (N, d_z).
        reward: Parameters of the reward function.

    Returns:
        Mean and variance, each (..., N).
    """
    direction = weights @ reward.loading  # A'w, shape (..., N, d_z)
    mean = reward.scale * (direction * (locs[0] - locs[1])).sum(-1)
    variance = reward.scale**2 * (direction**2 * (variances[0] + variances[1])).sum(-1)
    return mean, variance

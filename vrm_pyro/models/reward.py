"""Linear scores and the reward they combine to, with closed-form moments."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vrm_pyro.models.distributions import Gaussian, WeightMoments


@dataclass(frozen=True)
class RewardParameters:
    """Values of the reward function on one step (spec 2.1).

    >>> reward = RewardParameters(torch.eye(2), torch.zeros(2), torch.tensor(3.0))
    >>> z = torch.tensor([[1.0, -1.0]])
    >>> reward.rewards(torch.tensor([[0.75, 0.25]]), reward.scores(z))  # 3 (.75 - .25)
    tensor([1.5000])

    Args:
        loading: A, shape (K, d_z).
        intercept: b, shape (K,).
        scale: beta > 0, a scalar tensor.
    """

    loading: Float[Tensor, "objectives features"]
    intercept: Float[Tensor, " objectives"]
    scale: Float[Tensor, ""]

    def scores(
        self, features: Float[Tensor, "*batch features"]
    ) -> Float[Tensor, "*batch objectives"]:
        """Return s = A z + b."""
        return features @ self.loading.T + self.intercept

    def detach(self) -> "RewardParameters":
        """Return the same values without gradients."""
        return RewardParameters(
            self.loading.detach(), self.intercept.detach(), self.scale.detach()
        )

    def rewards(
        self,
        weights: Float[Tensor, "... objectives"],
        scores: Float[Tensor, "... objectives"],
    ) -> Float[Tensor, "..."]:
        """Return r = beta w's."""
        return self.scale * (weights * scores).sum(-1)

    def delta(
        self,
        weights: Float[Tensor, "... objectives"],
        first: Float[Tensor, "... objectives"],
        second: Float[Tensor, "... objectives"],
    ) -> Float[Tensor, "..."]:
        """Return Delta = beta w'(s_first - s_second)."""
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
    """Mean and variance of a reward or of a reward difference, the variance in its parts.

    Source: spec 2.9.

    Attributes:
        mean: Expected value, in reward units.
        variance: Total variance; the sum of the four parts.
        from_weights: s' C_w s: not knowing which objectives count.
        from_features: m' S m: not knowing how good the response is.
        interaction: tr(C_w S).
        epistemic: Variance of the mean over the parameters' posterior; 0 at point estimates.
    """

    mean: Float[Tensor, " rows"]
    variance: Float[Tensor, " rows"]
    from_weights: Float[Tensor, " rows"]
    from_features: Float[Tensor, " rows"]
    interaction: Float[Tensor, " rows"]
    epistemic: Float[Tensor, " rows"]


def _moments(
    weights: WeightMoments,
    score: Tensor,
    features: Sequence[Gaussian],
    reward: RewardParameters,
    doubt: Tensor | None,
) -> Moments:
    """Combine the formulas of spec 2.9; the score's covariance is the sum of all A Sigma A'.

    Where the parameters leave E z open, E over them of s' C_w s has what the doubt adds.
    """
    expected = (weights.mean * score).sum(-1)
    # C_w 1 = 0: centred first, the product loses no digits for nearly equal scores.
    centred = score - expected.unsqueeze(-1)
    from_weights = torch.einsum("rk,rkl,rl->r", centred, weights.covariance, centred).clamp(min=0)
    from_features = interaction = epistemic = torch.zeros_like(expected)
    for distribution in features:
        projected, product = _spread(weights, distribution, reward)
        from_features, interaction = from_features + projected, interaction + product
    if doubt is not None:
        about = Gaussian(torch.zeros_like(doubt), doubt.sqrt())
        epistemic, product = _spread(weights, about, reward)
        from_weights = from_weights + product
    square = reward.scale**2
    return Moments(
        reward.scale * expected,
        square * (from_weights + from_features + interaction + epistemic),
        square * from_weights,
        square * from_features,
        square * interaction,
        square * epistemic,
    )


def _spread(
    weights: WeightMoments, features: Gaussian, reward: RewardParameters
) -> tuple[Tensor, Tensor]:
    """Return m' A Sigma A' m and tr(C_w A Sigma A')."""
    factor = features.factor(reward.loading)  # A L, shape (R, K, d_z)
    product = (factor * (weights.covariance @ factor)).sum((-2, -1))
    return features.projected_variance(weights.mean @ reward.loading), product.clamp(min=0)


def mixed_moments(draws: Sequence[Moments]) -> Moments:
    """Return the moments over equally likely parameters, by the law of total variance.

    Args:
        draws: Moments at each of M values of the parameters, or of M members of an ensemble,
            whose own epistemic parts then add their mean; at least 2.
    """
    stacked = [torch.stack(part) for part in zip(*draws, strict=True)]
    mean, _, from_weights, from_features, interaction, within = stacked
    local = from_weights.mean(0), from_features.mean(0), interaction.mean(0)
    epistemic = mean.var(0) + within.mean(0)
    return Moments(mean.mean(0), sum(local, epistemic), *local, epistemic)


def reward_moments(
    weights: WeightMoments,
    features: Gaussian,
    reward: RewardParameters,
    doubt: Float[Tensor, "rows features"] | None = None,
) -> Moments:
    """Return the moments of r = beta w'(A z + b) (spec 2.9).

    Args:
        weights: Moments of w of each response's prompt, R rows.
        features: Distribution of z, R rows.
        reward: Parameters of the reward function.
        doubt: Variance of E z over parameters that are integrated out, as
            :func:`mixed_moments` does by draws; none if omitted.

    Returns:
        Moments, each of shape (R,). Levels carry a per-prompt constant that no preference
        identifies (spec 2.8.1): compare rewards of one prompt only.
    """
    return _moments(weights, reward.scores(features.loc), [features], reward, doubt)


def delta_moments(
    weights: WeightMoments,
    first: Gaussian,
    second: Gaussian,
    reward: RewardParameters,
    doubt: Float[Tensor, "rows features"] | None = None,
) -> Moments:
    """Return the moments of Delta = r_first - r_second with shared w (spec 2.9).

    Args:
        weights: Moments of w of each pair's prompt, N rows.
        first: Distribution of z of the first response, N rows.
        second: Distribution of z of the second response, N rows.
        reward: Parameters of the reward function.
        doubt: Variance of E z_first - E z_second over parameters that are integrated out; none
            if omitted.
    """
    gap = (first.loc - second.loc) @ reward.loading.T
    return _moments(weights, gap, [first, second], reward, doubt)


def reward_covariance(
    weights: WeightMoments, first: Gaussian, second: Gaussian, reward: RewardParameters
) -> Float[Tensor, " pairs"]:
    """Return Cov(r_first, r_second) = beta^2 s_first' C_w s_second (spec 2.9)."""
    scores = reward.scores(first.loc), reward.scores(second.loc)
    # C_w 1 = 0: a common level of the scores cancels, and is better taken out first.
    first_score, second_score = (s - (weights.mean * s).sum(-1, keepdim=True) for s in scores)
    return reward.scale**2 * torch.einsum(
        "nk,nkl,nl->n", first_score, weights.covariance, second_score
    )


def score_gap(
    first: Gaussian, second: Gaussian, reward: RewardParameters
) -> Float[Tensor, "pairs objectives"]:
    """Return beta E[s_first - s_second]: E[Delta | w] is linear in w, and these its slopes."""
    return reward.scale * (first.loc - second.loc) @ reward.loading.T


def delta_over_nodes(
    weights: Float[Tensor, "pairs objectives draws"],
    first: Gaussian,
    second: Gaussian,
    reward: RewardParameters,
) -> tuple[Float[Tensor, "pairs draws"], Float[Tensor, "pairs draws"]]:
    """Return what :func:`delta_given_weights` does, fast for many draws of w.

    w'd and w'Mw with d = beta (s_first - s_second), M = beta^2 A (Sigma_first + Sigma_second) A'.

    Args:
        weights: Nodes of w of each pair's prompt.
        first: Distribution of z of the first response, N rows.
        second: Distribution of z of the second response, N rows.
        reward: Parameters of the reward function.
    """
    gap = score_gap(first, second, reward)
    factor = torch.cat([first.factor(reward.loading), second.factor(reward.loading)], -1)
    spread = reward.scale**2 * factor @ factor.mT
    mean = (gap.unsqueeze(-2) @ weights).squeeze(-2)
    # Rounding may leave a difference of equal products below 0.
    return mean, (weights * (spread @ weights)).sum(-2).clamp(min=0)


def delta_given_weights(
    weights: Float[Tensor, "*draws pairs objectives"],
    first: Gaussian,
    second: Gaussian,
    reward: RewardParameters,
) -> tuple[Float[Tensor, "*draws pairs"], Float[Tensor, "*draws pairs"]]:
    """Return mean and variance of Delta given w: exactly Normal once z is Gaussian (spec 2.6).

    Args:
        weights: w of each pair's prompt; leading dimensions are draws.
        first: Distribution of z of the first response, N rows.
        second: Distribution of z of the second response, N rows.
        reward: Parameters of the reward function.
    """
    direction = weights @ reward.loading  # A'w, shape (..., N, d_z)
    mean = reward.scale * (direction * (first.loc - second.loc)).sum(-1)
    if first.diagonal and second.diagonal:  # one product over the draws instead of two
        variance = (direction**2 * (first.variance + second.variance)).sum(-1)
    else:
        variance = first.projected_variance(direction) + second.projected_variance(direction)
    return mean, reward.scale**2 * variance

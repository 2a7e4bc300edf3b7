"""Gaussian ratings on objective scores."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.priors.base import check_positive
from vrm_pyro.models.ratings.base import RatingLikelihood, RatingModule, RatingValues


@dataclass(frozen=True)
class GaussianRatings(RatingLikelihood):
    """y_jk ~ N(s_jk + o_k, tau_k^2) (spec 2.5 i).

    lambda and tau^2 have the same effect on the latents. Keep ``rating_power`` 1 if tau is
    learned; fix tau to tune ``rating_power``.

    Args:
        scale: tau, in standard deviations of all ratings; the initial value if learned.
        learn_scale: Learn tau, one per objective.

    Raises:
        ValueError: If ``scale`` is not positive.

    >>> values = GaussianRatings(scale=0.5).build(num_objectives=2)()
    >>> values.mean(torch.tensor([[0.3, -1.0]])).detach()
    tensor([[ 0.3000, -1.0000]])
    """

    scale: float = 0.5
    learn_scale: bool = True

    conjugate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(self, scale=self.scale)

    def build(self, num_objectives: int, power: float = 1.0) -> RatingModule:
        """Return the module with o and tau."""
        return GaussianRatingsModule(num_objectives, self.scale, self.learn_scale, power)


class RatingScale(nn.Module):
    """Scale tau, one per objective, learned or fixed (spec 2.5 i).

    Args:
        num_objectives: K.
        scale: Initial tau.
        learn: Whether tau is a parameter.
    """

    log_scale: Tensor

    def __init__(self, num_objectives: int, scale: float, learn: bool) -> None:
        super().__init__()
        log_scale = torch.full((num_objectives,), math.log(scale))
        if learn:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    def forward(self) -> Tensor:
        """Return tau, shape (K,), at least 0.01, so no rating determines its score exactly."""
        return self.log_scale.exp().clamp(min=1e-2)


class GaussianRatingsModule(RatingModule):
    """Offset o and scale tau of :class:`GaussianRatings` (spec 2.5 i)."""

    def __init__(self, num_objectives: int, scale: float, learn_scale: bool, power: float) -> None:
        super().__init__()
        self.scale = RatingScale(num_objectives, scale, learn_scale)
        self.offset = nn.Parameter(torch.zeros(num_objectives))
        self.power = power

    def forward(self) -> "GaussianValues":
        """Return o, tau and lambda."""
        return GaussianValues(self.offset, self.scale(), self.power)


@dataclass(frozen=True)
class GaussianValues(RatingValues):
    """Values on one step: offset o (K,), scale tau (K,) and power lambda (spec 2.5 i)."""

    offset: Float[Tensor, " objectives"]
    scale: Float[Tensor, " objectives"]
    power: float

    conjugate: ClassVar[bool] = True

    def detach(self) -> "GaussianValues":
        """Return the same values without gradients."""
        return replace(self, offset=self.offset.detach(), scale=self.scale.detach())

    def log_prob(self, scores: Tensor, ratings: Tensor) -> Tensor:
        """Return log N(y; s + o, tau^2)."""
        return dist.Normal(scores + self.offset, self.scale).log_prob(ratings)

    def slope(self, scores: Tensor, ratings: Tensor) -> Tensor:
        """Return (y - s - o) / tau^2."""
        return (ratings - scores - self.offset) / self.scale**2

    def information(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return 1 / tau^2."""
        return (self.scale**-2).expand_as(scores)

    def mean(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return s + o."""
        return scores + self.offset

    def sample(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Draw from N(s + o, tau^2)."""
        return dist.Normal(scores + self.offset, self.scale).sample()

    def given_scores(self, scores: Tensor, batch: FeatureBatch) -> dist.Distribution:
        """Return p(y | s) as Pyro's own Normal, masked."""
        distribution = dist.Normal(scores + self.offset, self.scale)
        return distribution.mask(batch.rating_mask).to_event(1)

    def expected_log_prob(self, batch: FeatureBatch, loc: Tensor, variance: Tensor) -> Tensor:
        """Return lambda E log p(y | s) in closed form, shape (R,) (spec 2.6)."""
        squared = (batch.ratings - loc - self.offset) ** 2 + variance
        each = -0.5 * (squared / self.scale**2 + torch.log(2 * torch.pi * self.scale**2))
        return self.power * torch.where(batch.rating_mask, each, torch.zeros_like(each)).sum(-1)

    def each_log_prob(self, batch: FeatureBatch, loc: Tensor, variance: Tensor) -> Tensor:
        """Return log E p(y | s)^lambda of each rating in closed form, shape (R, K) (spec 2.6)."""
        spread = (variance + self.scale**2 / self.power).sqrt()
        tempering = (1 - self.power) * torch.log(2 * torch.pi * self.scale**2)
        each = dist.Normal(loc + self.offset, spread).log_prob(batch.ratings)
        each = each + 0.5 * (tempering - math.log(self.power))
        return torch.where(batch.rating_mask, each, torch.zeros_like(each))

    def site(self, batch: FeatureBatch, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return lambda m / tau^2 and y - o: exact wherever ``scores`` are."""
        precision = batch.rating_mask.to(self.scale.dtype) * (self.power / self.scale**2)
        return precision, batch.ratings - self.offset

    def marginal(
        self,
        mask: Bool[Tensor, "responses objectives"],
        score_loc: Float[Tensor, "responses objectives"],
        factor: Float[Tensor, "responses objectives features"],
    ) -> tuple[dist.LowRankMultivariateNormal, Float[Tensor, " responses"]]:
        """Return the distribution of ratings with z integrated out, and a correction.

        The distribution is N(loc + o, F F' + diag tau^2 / lambda); a missing entry has its row of
        F set to zero and a variance of 1 / 2 pi, which gives it log-probability 0 at its mean.
        The correction, 1/2 [(1 - lambda) log(2 pi tau^2) - log lambda] for each observed rating,
        makes the sum the log of the tempered evidence for lambda != 1 (spec 2.13).

        Args:
            mask: True where observed, shape (R, K).
            score_loc: Prior mean of the scores, shape (R, K).
            factor: F = A L with L L' the covariance of z, shape (R, K, d_z).

        Returns:
            Distribution with batch (R,) and event (K,), and the correction, shape (R,).
        """
        variance = self.scale**2 / self.power
        diagonal = torch.where(mask, variance, variance.new_tensor(1 / (2 * math.pi)))
        factor = factor * mask.unsqueeze(-1).to(factor.dtype)
        distribution = dist.LowRankMultivariateNormal(score_loc + self.offset, factor, diagonal)
        tempering = (1 - self.power) * torch.log(2 * torch.pi * self.scale**2)
        correction = 0.5 * (tempering - math.log(self.power))
        return distribution, (mask.to(factor.dtype) * correction).sum(-1)

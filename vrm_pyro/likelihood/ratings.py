"""Gaussian ratings on objective scores."""

import math
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor, nn


class GaussianRatings(nn.Module):
    """y_jk ~ N(s_jk + o_k, tau_k^2) with missing entries and power lambda (spec 2.5 i).

    Ratings arrive standardised on one scale per data set, so tau, o and the scores share a unit.
    lambda and tau^2 are one parameter for the latents: with tau learned keep lambda = 1, with
    lambda as a tuning constant fix tau.

    Args:
        num_objectives: K.
        scale: tau at the start, in standardised rating units.
        learn_scale: Whether tau is learned, one per objective.
        power: lambda, the power on the rating likelihood.
    """

    log_scale: Tensor

    def __init__(
        self, num_objectives: int, scale: float = 0.5, learn_scale: bool = True, power: float = 1.0
    ) -> None:
        super().__init__()
        log_scale = torch.full((num_objectives,), math.log(scale))
        if learn_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)
        self.offset = nn.Parameter(torch.zeros(num_objectives))
        self.power = power

    @property
    def scale(self) -> Tensor:
        """tau, shape (K,); never below 0.01, where a rating would pin its score exactly."""
        return self.log_scale.exp().clamp(min=1e-2)


@dataclass(frozen=True)
class RatingParameters:
    """Values of the rating model on one step: offset o (K,), scale tau (K,) and power lambda."""

    offset: Tensor
    scale: Tensor
    power: float

    def precision(self, mask: Tensor) -> Tensor:
        """Return lambda m / tau^2, shape (R, K): what a rating adds to the score's precision."""
        return mask.to(self.scale.dtype) * (self.power / self.scale**2)

    def residual(self, ratings: Tensor, intercept: Tensor) -> Tensor:
        """Return y - b - o: the part of a rating that the features have to explain, (R, K)."""
        return ratings - intercept - self.offset

    def given_scores(self, scores: Tensor, mask: Tensor) -> dist.Distribution:
        """Return p(y | s): batch (..., R), event (K,); masked entries have log-probability 0."""
        return dist.Normal(scores + self.offset, self.scale).mask(mask).to_event(1)

    def expected_log_prob(
        self, ratings: Tensor, mask: Tensor, score_loc: Tensor, score_variance: Tensor
    ) -> Tensor:
        """Return lambda E_q log p(y | s) for Gaussian scores, shape (R,) (spec 2.6)."""
        squared = (ratings - score_loc - self.offset) ** 2 + score_variance
        per_rating = -0.5 * (squared / self.scale**2 + torch.log(2 * torch.pi * self.scale**2))
        return self.power * torch.where(mask, per_rating, torch.zeros_like(per_rating)).sum(-1)

    def marginal(
        self, mask: Tensor, score_loc: Tensor, factor: Tensor
    ) -> tuple[dist.LowRankMultivariateNormal, Tensor]:
        """Return the ratings' distribution with the features integrated out, and a correction.

        The distribution is N(loc + o, F F' + diag tau^2 / lambda); a missing entry has its row of
        F set to zero and a variance of 1 / 2 pi, which gives it log-probability 0 at its mean.
        The correction, 1/2 [(1 - lambda) log(2 pi tau^2) - log lambda] for each observed rating,
        makes the sum the log of the tempered evidence for lambda != 1 (spec 2.13).

        Args:
            mask: True where observed, shape (R, K).
            score_loc: Prior mean of the scores, shape (R, K).
            factor: F = A diag(sd of z), shape (R, K, d_z).

        Returns:
            Distribution with batch (R,) and event (K,), and the correction, shape (R,).
        """
        variance = self.scale**2 / self.power
        diagonal = torch.where(mask, variance, variance.new_tensor(1 / (2 * math.pi)))
        factor = factor * mask.unsqueeze(-1).to(factor.dtype)
        law = dist.LowRankMultivariateNormal(score_loc + self.offset, factor, diagonal)
        tempering = (1 - self.power) * torch.log(2 * torch.pi * self.scale**2)
        correction = 0.5 * (tempering - math.log(self.power))
        return law, (mask.to(factor.dtype) * correction).sum(-1)

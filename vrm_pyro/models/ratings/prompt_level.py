"""Ratings with a level per prompt: of a known spread here, free in difference.py."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.priors.base import check_positive
from vrm_pyro.models.ratings.base import (
    LEAST_INFORMATION,
    RatingDistribution,
    RatingLikelihood,
    RatingModule,
    RatingValues,
)
from vrm_pyro.models.ratings.gaussian import RatingScale


@dataclass(frozen=True)
class PromptLevelRatings(RatingLikelihood):
    """y_jk ~ N(s_jk + o_k + c_pk, tau_k^2), c_pk ~ N(0, omega_k^2) (spec 2.5 i).

    A random intercept per prompt p and objective, integrated out: ratings of one prompt share
    what its rater or its difficulty adds to all of them. Between :class:`GaussianRatings`
    (omega 0), which takes two responses that share a level for two pieces of evidence, and
    :class:`DifferenceRatings` (omega infinite), which knows no levels.

    Args:
        scale: tau, in standard deviations of all ratings; the initial value if learned.
        level_scale: omega, in the same unit; the initial value if learned.
        learn_scale: Learn tau and omega, one each per objective.

    Raises:
        ValueError: If a scale is not positive.

    >>> values = PromptLevelRatings(scale=0.5).build(num_objectives=2)()
    >>> values.mean(torch.tensor([[0.3, -1.0]])).detach()
    tensor([[ 0.3000, -1.0000]])
    """

    scale: float = 0.5
    level_scale: float = 0.5
    learn_scale: bool = True

    def __post_init__(self) -> None:
        check_positive(self, scale=self.scale, level_scale=self.level_scale)

    def build(self, num_objectives: int, power: float = 1.0) -> RatingModule:
        """Return the module with o, tau and omega."""
        return PromptLevelRatingsModule(
            num_objectives, self.scale, self.level_scale, self.learn_scale, power
        )


class PromptLevelRatingsModule(RatingModule):
    """Offset o and scales tau and omega of :class:`PromptLevelRatings` (spec 2.5 i)."""

    def __init__(
        self,
        num_objectives: int,
        scale: float,
        level_scale: float,
        learn_scale: bool,
        power: float,
    ) -> None:
        super().__init__()
        self.scale = RatingScale(num_objectives, scale, learn_scale)
        self.offset = nn.Parameter(torch.zeros(num_objectives))
        self.power = power
        self.level_scale = RatingScale(num_objectives, level_scale, learn_scale)

    def forward(self) -> "SharedLevelValues":
        """Return o, tau, omega and lambda."""
        return SharedLevelValues(self.scale(), self.power, self.offset, self.level_scale())


@dataclass(frozen=True)
class SharedLevelValues(RatingValues):
    """Values on one step: ratings of a prompt have covariance tau^2 I + omega^2 1 1' (spec 2.5 i).

    Sums run over the rated responses of each prompt, for each objective. What these share is
    booked in equal parts, so that values per response add up to those per prompt.

    Attributes:
        scale: tau, shape (K,).
        power: lambda.
        offset: o, shape (K,); none for 0.
        level_scale: omega, shape (K,); none where levels are free, so that only differences
            within a prompt count.
    """

    scale: Float[Tensor, " objectives"]
    power: float
    offset: Float[Tensor, " objectives"] | None = None
    level_scale: Float[Tensor, " objectives"] | None = None

    def detach(self) -> "SharedLevelValues":
        """Return the same values without gradients."""
        scale, offset, level = (
            None if value is None else value.detach()
            for value in (self.scale, self.offset, self.level_scale)
        )
        assert scale is not None
        return SharedLevelValues(scale, self.power, offset, level)

    def mean(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return s + o; without levels only its differences are those of ratings."""
        return scores if self.offset is None else scores + self.offset

    def sample(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Draw from N(s + o, tau^2 + omega^2), each rating alone; free levels are 0."""
        variance = self.scale**2
        if self.level_scale is not None:
            variance = variance + self.level_scale**2
        return dist.Normal(self.mean(scores), variance.sqrt()).sample()

    def sample_rows(self, scores: Tensor, batch: FeatureBatch) -> Tensor:
        """Draw y of all responses, with one level for each prompt and objective."""
        with torch.no_grad():
            drawn = dist.Normal(self.mean(scores), self.scale).sample()
            if self.level_scale is None:
                return drawn
            size = (*drawn.shape[:-2], batch.num_prompts, drawn.shape[-1])
            levels = self.level_scale * drawn.new_empty(size).normal_()
            return drawn + levels[..., batch.response_prompt, :]

    def given_scores(self, scores: Tensor, batch: FeatureBatch) -> dist.Distribution:
        """Return the likelihood of the ratings of a prompt, split over the rated responses."""
        return _SharedLevelDistribution(self, scores, batch)

    def expected_log_prob(self, batch: FeatureBatch, loc: Tensor, variance: Tensor) -> Tensor:
        """Return lambda E log p(y | s) in closed form, shape (R,) (spec 2.6)."""
        noise = (self.scale**2).expand_as(loc)
        return self.power * self._each(batch, loc, noise, extra=variance).sum(-1)

    def each_log_prob(self, batch: FeatureBatch, loc: Tensor, variance: Tensor) -> Tensor:
        """Return log E p(y | s)^lambda of each prompt, split over its ratings (spec 2.6).

        Exact for independent scores: composite, as scores of a response share its features.
        """
        power, noise = self.power, (self.scale**2).expand_as(loc)
        value = self._each(batch, loc, noise / power + variance, level_power=power)
        # p^lambda is the density with the covariance divided by lambda, times this constant.
        constant = (1 - power) * self._log_det(batch, noise)
        return value + 0.5 * (constant - math.log(power) * self._degrees(batch))

    def coupling(self, batch: FeatureBatch) -> tuple[Tensor, Tensor]:
        """Return t and u of the precision diag(t) - u u' of a prompt's scores, each (R, K).

        Given the level, ratings are independent with precision t; integrating it out takes
        u u' off, of all rated responses of the prompt, for each objective alone.
        """
        noise = (self.scale**2).expand(batch.rating_mask.shape)
        pull = self._pull(_total(batch, batch.rating_mask / noise))
        used = self.informs(batch).to(noise.dtype) * self.power
        return used / noise, used.sqrt() * pull.sqrt() / noise

    def site(self, batch: FeatureBatch, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Gaussian update of each response with the others held at ``scores``."""
        noise = (self.scale**2).expand_as(scores)
        share = self._pull(_total(batch, batch.rating_mask / noise)) / noise
        residual = self._residual(batch, scores)
        others = _total(batch, residual) - residual
        usable = self.informs(batch)
        # The square form of the residuals is least in s_j where r_j = share (r_j + others).
        best = share * others / (1 - share).clamp(min=LEAST_INFORMATION)
        target = torch.where(usable, scores + residual - best, scores)
        return torch.where(usable, self.power * (1 - share) / noise, 0.0), target

    def _each(
        self,
        batch: FeatureBatch,
        scores: Tensor,
        noise: Tensor,
        extra: Tensor | None = None,
        level_power: float = 1.0,
    ) -> Tensor:
        """Return each rating's share of log p(y | s), shape (..., R, K).

        Args:
            batch: Its ratings.
            scores: s, shape (..., R, K).
            noise: Variance of each rating given its level, (R, K).
            extra: Variance of the scores over which to take the expectation.
            level_power: Divides omega^2.
        """
        residual = self._residual(batch, scores)
        precision = _total(batch, batch.rating_mask / noise)
        pull = self._pull(precision, level_power)
        level = pull * _total(batch, residual / noise)  # its posterior mean
        square = (residual - level) ** 2
        if extra is not None:
            square = square + extra * (1 - pull / noise)
        each = square / noise + self._log_det(batch, noise, level_power)
        if self.level_scale is not None:
            prior = level_power * (level / self.level_scale) ** 2
            each = each + prior / _count(batch).clamp(min=1)
        each = -0.5 * each
        return torch.where(self.informs(batch), each, torch.zeros_like(each))

    def _log_det(self, batch: FeatureBatch, noise: Tensor, level_power: float = 1.0) -> Tensor:
        """Return each response's share of the log of |2 pi covariance|, (R, K)."""
        precision = _total(batch, batch.rating_mask / noise)
        level = (
            precision
            if self.level_scale is None
            else (1 + self.level_scale**2 / level_power * precision)
        )
        level = _positive(level).log() / _count(batch).clamp(min=1)
        value = noise.log() + level + self._degrees(batch) * math.log(2 * math.pi)
        return torch.where(self.informs(batch), value, torch.zeros_like(value))

    def _pull(self, precision: Tensor, level_power: float = 1.0) -> Tensor:
        """Return omega^2 / (1 + omega^2 precision): the variance of a level given residuals."""
        if self.level_scale is None:
            return 1 / _positive(precision)
        level = self.level_scale**2 / level_power
        return level / (1 + level * precision)

    def _residual(self, batch: FeatureBatch, scores: Tensor) -> Tensor:
        residual = batch.ratings - self.mean(scores)
        return torch.where(batch.rating_mask, residual, torch.zeros_like(residual))

    def informs(self, batch: FeatureBatch) -> Tensor:
        """Return which ratings say something: a lone one of a free level does not."""
        least = 2 if self.level_scale is None else 1
        return batch.rating_mask & (_count(batch) >= least)

    def _degrees(self, batch: FeatureBatch) -> Tensor:
        """Return each rating's share of the rank of the covariance: a free level takes 1."""
        used = self.informs(batch).to(self.scale.dtype)
        return (
            used if self.level_scale is not None else used * (1 - 1 / _count(batch).clamp(min=1))
        )


def _positive(precision: Tensor) -> Tensor:
    """Return 1 where nothing is rated: neither value nor gradient may be infinite there."""
    return torch.where(precision > 0, precision, 1.0)


def _count(batch: FeatureBatch) -> Tensor:
    """Return how many responses of the same prompt have a rating on k, shape (R, K)."""
    return _total(batch, batch.rating_mask.to(batch.ratings.dtype))


def _total(batch: FeatureBatch, values: Tensor) -> Tensor:
    """Return the sum over the responses of each one's prompt, shape (..., R, K)."""
    zero = values.new_zeros(*values.shape[:-2], batch.num_prompts, values.shape[-1])
    return zero.index_add(-2, batch.response_prompt, values)[..., batch.response_prompt, :]


class _SharedLevelDistribution(RatingDistribution):
    """Ratings of all responses given their scores; those of one prompt share a level."""

    values: SharedLevelValues

    def __init__(self, values: SharedLevelValues, scores: Tensor, batch: FeatureBatch) -> None:
        super().__init__(values, scores, batch.rating_mask)
        self.batch = batch

    def expand(
        self, batch_shape: Sequence[int], _instance: Any = None
    ) -> "_SharedLevelDistribution":
        """Return the distribution with its scores expanded to ``batch_shape``."""
        scores = self.scores.expand(*batch_shape, self.scores.shape[-1])
        return _SharedLevelDistribution(self.values, scores, self.batch)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw ratings, masked ones too, with one level for each prompt and objective."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.values.sample_rows(self.scores.expand(shape), self.batch)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return each response's share of the log-likelihood, without the power."""
        noise = (self.values.scale**2).expand(self.scores.shape[-2:])
        each = self.values._each(replace(self.batch, ratings=value), self.scores, noise)
        return each.sum(-1)

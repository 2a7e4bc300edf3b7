"""Ratings known up to an offset per prompt: only differences within a prompt count."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.priors.base import check_positive
from vrm_pyro.models.ratings.base import (
    RatingDistribution,
    RatingLikelihood,
    RatingModule,
    RatingValues,
)
from vrm_pyro.models.ratings.gaussian import RatingScale


@dataclass(frozen=True)
class DifferenceRatings(RatingLikelihood):
    """y_a - y_b ~ N(s_a - s_b, 2 tau_k^2) (spec 2.5 i): a prompt's offset cancels.

    For ratings whose level depends on the prompt or its rater. With R rated responses of a
    prompt, it is the likelihood of the R - 1 independent differences under Normal(s + c, tau^2)
    with a free c per prompt and objective. A single rated response carries no information.

    Args:
        scale: tau, in standard deviations of all ratings; the initial value if learned.
        learn_scale: Learn tau, one per objective.

    Raises:
        ValueError: If ``scale`` is not positive.
    """

    scale: float = 0.5
    learn_scale: bool = True

    levels_known: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(self, scale=self.scale)

    def build(self, num_objectives: int, power: float = 1.0) -> RatingModule:
        """Return the module with tau."""
        return DifferenceRatingsModule(num_objectives, self.scale, self.learn_scale, power)


class DifferenceRatingsModule(RatingModule):
    """Scale tau of :class:`DifferenceRatings` (spec 2.5 i)."""

    def __init__(self, num_objectives: int, scale: float, learn_scale: bool, power: float) -> None:
        super().__init__()
        self.scale = RatingScale(num_objectives, scale, learn_scale)
        self.power = power

    def forward(self) -> "DifferenceValues":
        """Return tau and lambda."""
        return DifferenceValues(self.scale(), self.power)


@dataclass(frozen=True)
class DifferenceValues(RatingValues):
    """Values on one step: scale tau (K,) and power lambda (spec 2.5 i)."""

    scale: Float[Tensor, " objectives"]
    power: float

    def detach(self) -> "DifferenceValues":
        """Return the same values without gradients."""
        return replace(self, scale=self.scale.detach())

    def mean(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return s: levels are unknown, differences are those of ratings."""
        return scores

    def sample(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Draw from N(s, tau^2), at level 0."""
        return dist.Normal(scores, self.scale).sample()

    def given_scores(self, scores: Tensor, batch: FeatureBatch) -> dist.Distribution:
        """Return the likelihood of the differences, split over the rated responses."""
        return _DifferenceDistribution(self, scores, batch)

    def expected_log_prob(self, batch: FeatureBatch, loc: Tensor, variance: Tensor) -> Tensor:
        """Return lambda E log p in closed form: the square gains the centred variance."""
        count = self._count(batch)
        share = 1 - 1 / count.clamp(min=1)
        return self.power * self._log_prob(batch, loc, extra=variance * share)

    def informs(self, batch: FeatureBatch) -> Tensor:
        """Return the ratings that have another one of the same prompt to differ from."""
        return batch.rating_mask & (self._count(batch) > 1)

    def each_log_prob(self, batch: FeatureBatch, loc: Tensor, variance: Tensor) -> Tensor:
        """Return log E p of each response's difference to the mean of its prompt (spec 2.6).

        A composite likelihood: R differences to a mean stand for R - 1 independent ones, so each
        has weight (R - 1) / R.
        """
        count = self._count(batch)
        inverse = 1 / count.clamp(min=2)
        residual = self._centred(batch, batch.ratings - loc)
        observed = batch.rating_mask.to(loc.dtype)
        others = self._total(batch, observed * variance) - variance
        spread = variance * (1 - inverse) ** 2 + others * inverse**2
        noise = self.scale**2 * (1 - inverse)
        distribution = dist.Normal(
            torch.zeros_like(residual), (spread + noise / self.power).sqrt()
        )
        tempering = (1 - self.power) * torch.log(2 * torch.pi * noise)
        each = distribution.log_prob(residual) + 0.5 * (tempering - math.log(self.power))
        return torch.where(self.informs(batch), (1 - inverse) * each, torch.zeros_like(each))

    def site(self, batch: FeatureBatch, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Gaussian update of each response with the others held at ``scores``."""
        count = self._count(batch)
        share = 1 - 1 / count.clamp(min=1)
        observed = batch.rating_mask.to(scores.dtype)
        precision = observed * share * self.power / self.scale**2
        # Minimises the centred square over s_j alone: the others' mean residual is its offset.
        residual = torch.where(batch.rating_mask, batch.ratings - scores, 0.0)
        others = (self._total(batch, residual) - residual) / (count - 1).clamp(min=1)
        target = torch.where(batch.rating_mask & (count > 1), batch.ratings - others, scores)
        return precision, target

    def _log_prob(
        self, batch: FeatureBatch, scores: Tensor, extra: Tensor | None = None
    ) -> Tensor:
        """Return each response's share of log p(differences | s), shape (..., R)."""
        count = self._count(batch)
        residual = self._centred(batch, batch.ratings - scores)
        share = 1 - 1 / count.clamp(min=1)
        normaliser = share * torch.log(2 * torch.pi * self.scale**2)
        normaliser = normaliser + count.clamp(min=1).log() / count.clamp(min=1)
        square = residual**2 if extra is None else residual**2 + extra
        each = -0.5 * (square / self.scale**2 + normaliser)
        usable = batch.rating_mask & (count > 1)
        return torch.where(usable, each, torch.zeros_like(each)).sum(-1)

    def _count(self, batch: FeatureBatch) -> Tensor:
        """Return how many responses of the same prompt have a rating on k, shape (R, K)."""
        return self._total(batch, batch.rating_mask.to(self.scale.dtype))

    def _centred(self, batch: FeatureBatch, residual: Tensor) -> Tensor:
        residual = torch.where(batch.rating_mask, residual, torch.zeros_like(residual))
        return residual - self._total(batch, residual) / self._count(batch).clamp(min=1)

    @staticmethod
    def _total(batch: FeatureBatch, values: Tensor) -> Tensor:
        """Return the sum over the responses of each one's prompt, shape (..., R, K)."""
        zero = values.new_zeros(*values.shape[:-2], batch.num_prompts, values.shape[-1])
        return zero.index_add(-2, batch.response_prompt, values)[..., batch.response_prompt, :]


class _DifferenceDistribution(RatingDistribution):
    """Ratings of all responses given their scores, known up to a level per prompt."""

    def __init__(self, values: DifferenceValues, scores: Tensor, batch: FeatureBatch) -> None:
        super().__init__(values, scores, batch.rating_mask)
        self.batch = batch

    def expand(self, batch_shape: Any, _instance: Any = None) -> "_DifferenceDistribution":
        """Return the distribution with its scores expanded to ``batch_shape``."""
        assert isinstance(self.values, DifferenceValues)
        scores = self.scores.expand(*batch_shape, self.scores.shape[-1])
        return _DifferenceDistribution(self.values, scores, self.batch)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return each response's share of the log-likelihood of the differences."""
        assert isinstance(self.values, DifferenceValues)
        return self.values._log_prob(replace(self.batch, ratings=value), self.scores)

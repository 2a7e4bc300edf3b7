"""Base classes of rating likelihoods: settings, module of parameters, values on a step."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import numpy as np
import pyro.distributions as dist
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import constraints

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.likelihoods import expect_normal, hermite_nodes, root

# A rating far from its score carries almost no information; the guide's update divides by this.
LEAST_INFORMATION: Final = 1e-4


class RatingLikelihood:
    """Base class of rating likelihood settings; children are frozen dataclasses (spec 2.5 i).

    Ratings arrive standardised with one location and scale per data set, not per objective, so
    scores of different objectives keep a common unit (spec 2.5).
    """

    #: Whether ratings are Gaussian given the scores of their response alone: features are then
    #: integrated out exactly, and objective ``collapsed`` and the evidence hold.
    conjugate: ClassVar[bool] = False
    #: Whether ratings of different prompts have one level, so that scores are expected ratings.
    levels_known: ClassVar[bool] = True
    #: What the standardised ratings are: ``standard`` (mean 0, variance 1), or ``unit`` (the
    #: least rating 0, the greatest 1).
    scale_kind: ClassVar[str] = "standard"

    def build(self, num_objectives: int, power: float = 1.0) -> "RatingModule":
        """Return the module; ``power`` is lambda, the power on the likelihood."""
        raise NotImplementedError

    @classmethod
    def unit(cls, ratings: NDArray[np.float64]) -> tuple[float, float]:
        """Return location and scale that standardise all observed ratings together."""
        if len(ratings) == 0:
            return 0.0, 1.0
        if cls.scale_kind == "unit":
            return float(ratings.min()), float(np.ptp(ratings)) or 1.0
        return float(ratings.mean()), float(ratings.std()) or 1.0


class RatingModule(nn.Module):
    """Parameters of a rating likelihood (spec 2.5 i)."""

    power: float

    def forward(self) -> "RatingValues":
        """Return the parameters' current values."""
        raise NotImplementedError


class RatingValues:
    """A rating likelihood on one step: elementwise functions of score s and rating y (spec 2.5 i).

    Children give :meth:`log_prob`, :meth:`slope`, :meth:`information`, :meth:`mean` and
    :meth:`sample`; the rest follows by quadrature, or is overridden by closed forms.

    Attributes:
        power: lambda.
    """

    power: float
    conjugate: ClassVar[bool] = False

    def log_prob(self, scores: Tensor, ratings: Tensor) -> Tensor:
        """Return log p(y | s) without the power, elementwise; last dimension objectives."""
        raise NotImplementedError

    def slope(self, scores: Tensor, ratings: Tensor) -> Tensor:
        """Return d log p(y | s) / d s, elementwise."""
        raise NotImplementedError

    def information(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the Fisher information of one rating about s, elementwise, > 0."""
        raise NotImplementedError

    def mean(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return E[y | s] in standardised units, elementwise."""
        raise NotImplementedError

    def sample(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Draw y given s, elementwise, without gradient."""
        raise NotImplementedError

    def sample_rows(self, scores: Tensor, batch: FeatureBatch) -> Tensor:
        """Draw y of all responses of a batch, (..., R, K): those of a prompt may share a level."""
        return self.sample(scores)

    def detach(self) -> "RatingValues":
        """Return the same values without gradients."""
        raise NotImplementedError

    def given_scores(self, scores: Tensor, batch: FeatureBatch) -> dist.Distribution:
        """Return p(y | s), batch (..., R), event (K,); masked entries have log-probability 0."""
        return RatingDistribution(self, scores, batch.rating_mask)

    def expected_log_prob(self, batch: FeatureBatch, loc: Tensor, variance: Tensor) -> Tensor:
        """Return lambda E log p(y | s) for independent Gaussian scores, shape (R,) (spec 2.6)."""
        ratings = batch.ratings.unsqueeze(-1)
        value = expect_normal(lambda s: self._nodes_log_prob(s, ratings), loc, variance)
        return self.power * torch.where(batch.rating_mask, value, 0.0).sum(-1)

    def composite_log_prob(self, batch: FeatureBatch, loc: Tensor, variance: Tensor) -> Tensor:
        """Return the sum over ratings of log E p(y | s)^lambda, shape (R,) (spec 2.6).

        A composite likelihood: it ignores that ratings of one response share its features.
        """
        return self.each_log_prob(batch, loc, variance).sum(-1)

    def each_log_prob(self, batch: FeatureBatch, loc: Tensor, variance: Tensor) -> Tensor:
        """Return log E p(y | s)^lambda of each rating, shape (R, K); 0 where nothing is rated."""
        nodes, mass = hermite_nodes(loc)
        scores = loc.unsqueeze(-1) + root(variance).unsqueeze(-1) * nodes
        log_prob = self.power * self._nodes_log_prob(scores, batch.ratings.unsqueeze(-1))
        value = torch.logsumexp(log_prob + mass.log(), -1)
        return torch.where(batch.rating_mask, value, 0.0)

    def informs(self, batch: FeatureBatch) -> Tensor:
        """Return which ratings say something about their score, shape (R, K)."""
        return batch.rating_mask

    def site(self, batch: FeatureBatch, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return a Gaussian approximation of the ratings' likelihood near ``scores``.

        Returns:
            Precision, shape (R, K), 0 where nothing was rated, and mean, (R, K): one
            Fisher-scoring step. Exact for Gaussian ratings.
        """
        information = self.information(scores)
        target = scores + self.slope(scores, batch.ratings) / information
        precision = batch.rating_mask.to(scores.dtype) * self.power * information
        return precision, torch.where(batch.rating_mask, target, scores)

    def _nodes_log_prob(self, scores: Tensor, ratings: Tensor) -> Tensor:
        """Return :meth:`log_prob` with a trailing dimension of nodes behind the objectives."""
        moved = self.log_prob(scores.movedim(-1, 0), ratings.movedim(-1, 0))
        return moved.movedim(0, -1)


class RatingDistribution(dist.TorchDistribution):
    """p(y | s) of a response's ratings for Pyro's ``sample``: batch (..., R), event (K,).

    Source: spec 2.5 i.

    Args:
        values: The likelihood.
        scores: s, shape (..., R, K).
        mask: True where a rating was observed, (R, K).
    """

    arg_constraints = {"scores": constraints.real_vector}
    support = constraints.real_vector

    def __init__(self, values: RatingValues, scores: Tensor, mask: Tensor) -> None:
        self.values, self.scores, self.mask_ = values, scores, mask
        super().__init__(scores.shape[:-1], scores.shape[-1:], validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "RatingDistribution":
        """Return the distribution with its scores expanded to ``batch_shape``."""
        scores = self.scores.expand(*batch_shape, self.scores.shape[-1])
        return RatingDistribution(self.values, scores, self.mask_)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw ratings, masked ones too."""
        with torch.no_grad():
            return self.values.sample(
                self.scores.expand(self._extended_shape(torch.Size(sample_shape)))
            )

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the sum over observed ratings of log p(y | s), without the power."""
        log_prob = self.values.log_prob(self.scores, value)
        return torch.where(self.mask_, log_prob, torch.zeros_like(log_prob)).sum(-1)

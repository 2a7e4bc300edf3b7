"""Guide that updates the conditional prior with observed ratings and preferences."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.distributions as dist
from torch import Tensor, nn
from torch.nn.functional import softplus

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.conjugate import rating_update
from vrm_pyro.models.distributions import (
    Gaussian,
    LogisticNormal,
    as_dirichlet,
    as_logistic_normal,
)
from vrm_pyro.models.guides.base import Guide, GuideModule
from vrm_pyro.models.guides.weight_update import (
    PairEvidence,
    inverse_factor,
    update_dirichlet,
    update_logistic_normal,
)

Family = Literal["prior", "dirichlet", "logistic_normal"]


@dataclass(frozen=True)
class OutcomeAwareGuide(Guide):
    """q(w, z | x, y, outcomes) as natural-parameter updates of the prior (spec 2.7).

    Ratings update z: exactly (conjugate) if they are Gaussian, else by their curvature at the
    mode. Preferences update z by a learned Gaussian site on w'A z per pair, and w by unrolled
    Newton steps with learned gains, which stay accurate with many pairs per prompt. Without data
    the guide equals the prior as far as its families hold it, so missing ratings need no special
    case: q(z) is diagonal, and of a prior with correlations keeps means and precisions alone
    (`FullCovarianceGuide` keeps the covariance); q(w) of another family than the prior has its
    matched moments. Swapping the two answers and the label leaves the result unchanged.

    Args:
        hidden_size: Hidden units of the network of the preference site on z.
        weights: Family of q(w): ``prior`` for that of the prior (Dirichlet if it is neither),
            ``dirichlet``, or ``logistic_normal`` with full covariance.

    Raises:
        ValueError: If a setting is out of range.
    """

    hidden_size: int = 16
    weights: Family = "prior"

    outcome_aware: ClassVar[bool] = True
    full_covariance: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_outcome_aware(self, self.hidden_size, self.weights)

    def build(self, hidden_size: int, num_objectives: int, latent_dim: int) -> GuideModule:
        """Return the module; its size does not depend on ``hidden_size``."""
        return OutcomeAwareModule(self.hidden_size, self.weights, self.full_covariance)


def check_outcome_aware(owner: object, hidden_size: int, weights: str) -> None:
    """Raise ValueError, with class and setting, if a setting is out of range."""
    name = type(owner).__name__
    if hidden_size < 1:
        raise ValueError(f"{name}: hidden_size is {hidden_size}, but must be >= 1.")
    if weights not in ("prior", "dirichlet", "logistic_normal"):
        raise ValueError(
            f"{name}: weights is {weights!r}, but must be prior, dirichlet or logistic_normal."
        )


def _site(in_size: int, hidden_size: int, biases: list[float]) -> nn.Sequential:
    """Return a small network that starts near the constant ``softplus(biases)``."""
    last = nn.Linear(hidden_size, len(biases))
    with torch.no_grad():
        last.weight.mul_(0.1)
        last.bias.copy_(torch.tensor(biases))
    return nn.Sequential(nn.Linear(in_size, hidden_size), nn.SiLU(), last)


class OutcomeAwareModule(GuideModule):
    """The site networks of :class:`OutcomeAwareGuide`.

    Source: spec 2.7.
    """

    def __init__(self, hidden_size: int, family: Family, full_covariance: bool) -> None:
        super().__init__()
        self.family, self.full_covariance = family, full_covariance
        # Start near the optimum for a single pair with Delta ~ N(0, 1), where log sigmoid has
        # slope 0.4 and curvature 0.15.
        self.feature_site = _site(2, hidden_size, [-0.7, -1.8])
        # Log gains on slope and curvature in the update of w; 0 is the plain Newton step.
        self.weight_gains = nn.Parameter(torch.zeros(2))

    def weights(self, batch: FeatureBatch, conditionals: Conditionals) -> dist.Distribution:
        """Return q(w | x, outcomes)."""
        return self.posterior(batch, conditionals)[0]

    def features(self, batch: FeatureBatch, conditionals: Conditionals) -> dist.Distribution:
        """Return q(z | x, y, outcomes)."""
        return self.posterior(batch, conditionals)[1]

    def posterior(
        self, batch: FeatureBatch, conditionals: Conditionals
    ) -> tuple[dist.Distribution, dist.Distribution]:
        """Return q(w | x, outcomes) and q(z | x, y, outcomes)."""
        natural, precision = rating_update(batch, conditionals)
        unrated = conditionals.ratings is None or batch.ratings.shape[-1] == 0
        diagonal = unrated and conditionals.gaussian.diagonal
        loc = _solve(precision, natural, diagonal)
        prior = self._weight_prior(conditionals.weights)
        if batch.num_pairs == 0:
            return prior, self._features(loc, precision)
        sign = 2 * batch.preference - 1
        q_weights = self._weights(prior, batch, conditionals, loc, precision, diagonal)
        natural, precision = self._preference_update(
            batch, conditionals, loc, sign, natural, precision, q_weights.mean
        )
        return q_weights, self._features(_solve(precision, natural), precision)

    def _weight_prior(self, prior: dist.Distribution) -> dist.Distribution:
        """Return the prior of w in the family of q."""
        if prior.event_shape == (1,):
            return prior
        if self.family == "logistic_normal":
            return as_logistic_normal(prior)
        if self.family == "prior" and isinstance(prior, LogisticNormal):
            return prior
        return as_dirichlet(prior)

    def _features(self, loc: Tensor, precision: Tensor) -> dist.Distribution:
        if self.full_covariance:
            return Gaussian(loc, inverse_factor(precision)).distribution()
        # The best diagonal Normal in KL(q || Gaussian): same mean, variance 1 / precision_dd.
        variance = precision.diagonal(dim1=-2, dim2=-1).reciprocal()
        return Gaussian(loc, variance.sqrt()).distribution()

    def _preference_update(
        self,
        batch: FeatureBatch,
        conditionals: Conditionals,
        loc: Tensor,
        sign: Tensor,
        natural: Tensor,
        precision: Tensor,
        weight_mean: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Add a Gaussian site on beta w'A z per pair, with learned slope g and curvature h."""
        reward = conditionals.reward
        direction = reward.scale * (weight_mean @ reward.loading)[batch.pair_prompt]  # (N, d)
        first, second = batch.pair_first, batch.pair_second
        margin = sign * (direction * (loc[first] - loc[second])).sum(-1)
        variance = precision.diagonal(dim1=-2, dim2=-1).reciprocal()
        spread = (direction**2 * (variance[first] + variance[second])).sum(-1)
        site = softplus(self.feature_site(torch.stack([_squash(margin), _squash(spread)], -1)))
        # A soft label of 1/2 carries no information: its site has slope 0 through the sign.
        slope = batch.pair_weight * sign * site[:, 0]
        curvature = batch.pair_weight * site[:, 1]
        outer = direction.unsqueeze(-1) * direction.unsqueeze(-2) * curvature[:, None, None]
        precision = precision.index_add(0, first, outer).index_add(0, second, outer)
        for side, rows in ((1.0, first), (-1.0, second)):
            # Center the curvature term at the current mean, so that it does not pull z to zero.
            centred = curvature * (direction * loc[rows]).sum(-1)
            update = direction * (centred + side * slope).unsqueeze(-1)
            natural = natural.index_add(0, rows, update)
        return natural, precision

    def _weights(
        self,
        prior: dist.Distribution,
        batch: FeatureBatch,
        conditionals: Conditionals,
        loc: Tensor,
        precision: Tensor,
        diagonal: bool,
    ) -> dist.Distribution:
        """Update the prior of w by the pairs of each prompt."""
        if conditionals.one_objective:
            return prior
        reward = conditionals.reward
        first, second = batch.pair_first, batch.pair_second
        difference = reward.scale * (loc[first] - loc[second]) @ reward.loading.T  # (N, K)
        # Uncertainty of z flattens the sigmoid: probit approximation, variance at the prior mean.
        direction = reward.scale * (prior.mean @ reward.loading)[batch.pair_prompt]
        # Use the full covariance: the diagonal, and so q(w), would depend on a rotation of z.
        both = _solve(precision[first], direction, diagonal)
        both = both + _solve(precision[second], direction, diagonal)
        spread = (direction * both).sum(-1, keepdim=True)
        shrink = torch.rsqrt(1 + torch.pi * spread / 8)
        pairs = PairEvidence(difference, shrink, self.weight_gains.exp())
        if isinstance(prior, LogisticNormal):
            return update_logistic_normal(prior, pairs, batch, conditionals)
        return update_dirichlet(as_dirichlet(prior), pairs, batch, conditionals)


def _squash(values: Tensor) -> Tensor:
    """Return asinh: linear near 0, logarithmic far out, so no margin saturates a site network."""
    return torch.asinh(values)


def _solve(precision: Tensor, natural: Tensor, diagonal: bool = False) -> Tensor:
    """Return precision^-1 natural, shape (R, d); a diagonal precision needs no factorisation."""
    if diagonal:
        return natural / precision.diagonal(dim1=-2, dim2=-1)
    return torch.linalg.solve(precision, natural.unsqueeze(-1)).squeeze(-1)

"""Guide that updates the conditional prior by what was observed."""

from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from vrm_pyro.batch import FeatureBatch
from vrm_pyro.conjugate import rating_update
from vrm_pyro.guides.base import Guide, GuideModule
from vrm_pyro.heads import Heads
from vrm_pyro.networks import CONCENTRATION_CAP


@dataclass(frozen=True)
class OutcomeAwareGuide(Guide):
    """q(w, z | x, y, outcomes) as natural-parameter updates of the prior (spec 2.7).

    Ratings update z by the exact conjugate rule. Preferences add a learned Gaussian site on
    w'A z for each pair, and a learned increment of the concentration of w. Without data the
    guide is the prior, so missing ratings need no special case, and the update is even under an
    exchange of the two answers.

    Args:
        hidden_size: Hidden units of the two site networks.
    """

    hidden_size: int = 16

    outcome_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.hidden_size < 1:
            raise ValueError(f"OutcomeAwareGuide: hidden_size is {self.hidden_size}, but must be >= 1.")

    def build(self, hidden_size: int, num_objectives: int, latent_dim: int) -> GuideModule:
        """Return the module; its size does not depend on the states, only the prior's does."""
        return OutcomeAwareModule(self.hidden_size)


def _site(in_size: int, hidden_size: int, biases: list[float]) -> nn.Sequential:
    """Return a small network that starts near the constant ``softplus(biases)``."""
    last = nn.Linear(hidden_size, len(biases))
    with torch.no_grad():
        last.weight.mul_(0.1)
        last.bias.copy_(torch.tensor(biases))
    return nn.Sequential(nn.Linear(in_size, hidden_size), nn.SiLU(), last)


class OutcomeAwareModule(GuideModule):
    """The site networks of :class:`OutcomeAwareGuide`."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        # Starting values near the optimum of a single pair with Delta ~ N(0, 1): slope about
        # 0.4 and curvature about 0.15 of log sigmoid; almost no increment of alpha.
        self.feature_site = _site(2, hidden_size, [-0.7, -1.8])
        self.weight_site = _site(3, hidden_size, [-3.0])

    def weights(self, batch: FeatureBatch, heads: Heads) -> dist.Dirichlet:
        """Return q(w | x, outcomes)."""
        return self.posterior(batch, heads)[0]

    def features(self, batch: FeatureBatch, heads: Heads) -> dist.Independent:
        """Return q(z | x, y, outcomes)."""
        return self.posterior(batch, heads)[1]

    def posterior(
        self, batch: FeatureBatch, heads: Heads
    ) -> tuple[dist.Dirichlet, dist.Independent]:
        """Return q(w | x, outcomes) and q(z | x, y, outcomes)."""
        natural, precision = rating_update(batch, heads)
        loc = _solve(precision, natural)
        if batch.num_pairs == 0:
            return heads.weights, _normal(loc, precision)
        sign = 2 * batch.preference - 1
        q_weights = self._weights(batch, heads, loc, sign)
        natural, precision = self._preference_update(
            batch, heads, loc, sign, natural, precision, q_weights.mean
        )
        return q_weights, _normal(_solve(precision, natural), precision)

    def _preference_update(
        self,
        batch: FeatureBatch,
        heads: Heads,
        loc: Tensor,
        sign: Tensor,
        natural: Tensor,
        precision: Tensor,
        weight_mean: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Add a Gaussian site on beta w'A z of each pair: slope g, curvature h, both learned."""
        reward = heads.reward
        direction = reward.scale * (weight_mean @ reward.loading)[batch.pair_prompt]  # (N, d)
        first, second = batch.pair_first, batch.pair_second
        margin = sign * (direction * (loc[first] - loc[second])).sum(-1)
        variance = precision.diagonal(dim1=-2, dim2=-1).reciprocal()
        spread = (direction**2 * (variance[first] + variance[second])).sum(-1)
        site = softplus(self.feature_site(torch.stack([_squash(margin), _squash(spread)], -1)))
        # A soft label of 1/2 says nothing: its site has slope 0 through the sign.
        slope = batch.pair_weight * sign * site[:, 0]
        curvature = batch.pair_weight * site[:, 1]
        outer = direction.unsqueeze(-1) * direction.unsqueeze(-2) * curvature[:, None, None]
        precision = precision.index_add(0, first, outer).index_add(0, second, outer)
        for side, rows in ((1.0, first), (-1.0, second)):
            # Curvature alone must not pull z to zero: it acts around the current mean.
            centred = curvature * (direction * loc[rows]).sum(-1)
            update = direction * (centred + side * slope).unsqueeze(-1)
            natural = natural.index_add(0, rows, update)
        return natural, precision

    def _weights(
        self, batch: FeatureBatch, heads: Heads, loc: Tensor, sign: Tensor
    ) -> dist.Dirichlet:
        """Raise the concentration of objectives on which the preferred answer is better."""
        reward, alpha = heads.reward, heads.weights.concentration
        difference = (loc[batch.pair_first] - loc[batch.pair_second]) @ reward.loading.T
        signed = reward.scale * sign.unsqueeze(-1) * difference  # (N, K)
        prior_mean = heads.weights.mean[batch.pair_prompt]
        expected = (prior_mean * signed).sum(-1, keepdim=True)
        # Per objective with shared weights: equivariant under a permutation of objectives.
        inputs = [_squash(signed - expected), _squash(expected).expand_as(signed), prior_mean]
        increment = softplus(self.weight_site(torch.stack(inputs, -1))).squeeze(-1)
        informative = (batch.pair_weight * sign.abs()).unsqueeze(-1)
        alpha = alpha.index_add(0, batch.pair_prompt, informative * increment)
        return dist.Dirichlet(alpha.clamp(max=CONCENTRATION_CAP))


def _squash(values: Tensor) -> Tensor:
    """Return asinh: linear near 0, logarithmic far out, so no margin saturates a site network."""
    return torch.asinh(values)


def _solve(precision: Tensor, natural: Tensor) -> Tensor:
    """Return precision^-1 natural, shape (R, d)."""
    return torch.linalg.solve(precision, natural.unsqueeze(-1)).squeeze(-1)


def _normal(loc: Tensor, precision: Tensor) -> dist.Independent:
    """Return the best diagonal Normal in KL(q || Gaussian): same mean, var = 1 / precision_dd."""
    variance = precision.diagonal(dim1=-2, dim2=-1).reciprocal()
    return dist.Normal(loc, variance.sqrt()).to_event(1)

"""Guide that updates the conditional prior by what was observed."""

from dataclasses import dataclass
from typing import ClassVar, Final

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from vrm_pyro.batch import FeatureBatch
from vrm_pyro.conjugate import rating_update
from vrm_pyro.guides.base import Guide, GuideModule
from vrm_pyro.heads import Heads
from vrm_pyro.networks import CONCENTRATION_CAP, CONCENTRATION_FLOOR

# Unrolled steps for w: the damped step moves a log weight by 1 at most.
NEWTON_STEPS: Final = 6


@dataclass(frozen=True)
class OutcomeAwareGuide(Guide):
    """q(w, z | x, y, outcomes) as natural-parameter updates of the prior (spec 2.7).

    Ratings update z by the exact conjugate rule. Preferences add a learned Gaussian site on
    w'A z for each pair, and move the mean of w by unrolled Newton steps with learned gains (many
    pairs of a prompt then give the posterior that they should). Without data the guide is the
    prior, so missing ratings need no special case, and the update is even under an
    exchange of the two answers.

    Args:
        hidden_size: Hidden units of the network of the preference site on z.
    """

    hidden_size: int = 16

    outcome_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.hidden_size < 1:
            raise ValueError(
                f"OutcomeAwareGuide: hidden_size is {self.hidden_size}, but must be >= 1."
            )

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
        # 0.4 and curvature about 0.15 of log sigmoid.
        self.feature_site = _site(2, hidden_size, [-0.7, -1.8])
        # Log gains of slope and curvature in the update of w; 0 is Newton's own step.
        self.weight_gains = nn.Parameter(torch.zeros(2))

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
        diagonal = heads.ratings is None or batch.ratings.shape[-1] == 0
        loc = _solve(precision, natural, diagonal)
        if batch.num_pairs == 0:
            return heads.weights, _normal(loc, precision)
        sign = 2 * batch.preference - 1
        q_weights = self._weights(batch, heads, loc, precision, diagonal)
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
        self,
        batch: FeatureBatch,
        heads: Heads,
        loc: Tensor,
        precision: Tensor,
        diagonal: bool,
    ) -> dist.Dirichlet:
        """Move the mean of w by a few damped Newton steps, and add the curvature seen.

        In coordinates theta with m = softmax(theta) the Dirichlet prior has gradient
        alpha - alpha_0 m and curvature alpha_0 m; a pair adds m (g - m'g) and m^2 h, with slope
        g and curvature h of its log-likelihood. Without pairs nothing moves: q is the prior.
        """
        reward, likelihood = heads.reward, heads.likelihood
        alpha = heads.weights.concentration
        total = alpha.sum(-1, keepdim=True)
        prior_mean = alpha / total
        first, second, prompt = batch.pair_first, batch.pair_second, batch.pair_prompt
        difference = reward.scale * (loc[first] - loc[second]) @ reward.loading.T  # (N, K)
        # Not knowing z flattens the sigmoid: its probit form with the spread at the prior mean.
        direction = reward.scale * (prior_mean @ reward.loading)[prompt]
        # With the full covariance: its diagonal would depend on the axes of z, and so would q(w).
        both = _solve(precision[first], direction, diagonal)
        both = both + _solve(precision[second], direction, diagonal)
        spread = (direction * both).sum(-1, keepdim=True)
        shrink = torch.rsqrt(1 + torch.pi * spread / 8)
        label, weight = batch.preference.unsqueeze(-1), batch.pair_weight.unsqueeze(-1)
        gain, curvature_gain = self.weight_gains.exp()
        mean, curvature = prior_mean, torch.zeros_like(alpha)
        for _ in range(NEWTON_STEPS):
            expected = (mean[prompt] * difference).sum(-1, keepdim=True)
            pull = likelihood.score(shrink * expected, label)
            slope = gain * weight * shrink * pull * difference
            information = likelihood.information(shrink * expected)
            bend = (shrink * (difference - expected)) ** 2 * weight * information
            slope = torch.zeros_like(alpha).index_add(0, prompt, slope)
            bend = torch.zeros_like(alpha).index_add(0, prompt, bend)
            centred = mean * (slope - (mean * slope).sum(-1, keepdim=True))
            curvature = curvature_gain * mean**2 * bend
            step = (alpha - total * mean + centred) / (total * mean + curvature + 1e-3)
            mean = torch.softmax(mean.log() + step.clamp(-1, 1), dim=-1)
        concentration = mean * (total + curvature.sum(-1, keepdim=True))
        return dist.Dirichlet(concentration.clamp(CONCENTRATION_FLOOR, CONCENTRATION_CAP))


def _squash(values: Tensor) -> Tensor:
    """Return asinh: linear near 0, logarithmic far out, so no margin saturates a site network."""
    return torch.asinh(values)


def _solve(precision: Tensor, natural: Tensor, diagonal: bool = False) -> Tensor:
    """Return precision^-1 natural, shape (R, d); a diagonal precision needs no factorisation."""
    if diagonal:
        return natural / precision.diagonal(dim1=-2, dim2=-1)
    return torch.linalg.solve(precision, natural.unsqueeze(-1)).squeeze(-1)


def _normal(loc: Tensor, precision: Tensor) -> dist.Independent:
    """Return the best diagonal Normal in KL(q || Gaussian): same mean, var = 1 / precision_dd."""
    variance = precision.diagonal(dim1=-2, dim2=-1).reciprocal()
    return dist.Normal(loc, variance.sqrt()).to_event(1)

"""Update q(w) with a prompt's pairs by damped Newton steps, one function per family."""

from typing import Final, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.distributions import LogisticNormal
from vrm_pyro.models.distributions.logistic_normal import contrast_basis
from vrm_pyro.models.networks import CONCENTRATION_CAP, CONCENTRATION_FLOOR

# Number of unrolled steps for w. Each step moves a log weight by at most 1.
NEWTON_STEPS: Final = 6


class PairEvidence(NamedTuple):
    """Second-order information of the pairs about w (spec 2.7).

    Attributes:
        difference: beta (s_first - s_second) at the mean of z, shape (N, K).
        shrink: Factor on Delta that accounts for the variance of z by the probit approximation,
            shape (N, 1).
        gains: Learned factors on slope and curvature; 1 is the plain Newton step.
    """

    difference: Tensor
    shrink: Tensor
    gains: Tensor

    def derivatives(
        self, mean: Tensor, batch: FeatureBatch, conditionals: Conditionals
    ) -> tuple[Tensor, ...]:
        """Return score, Fisher information and Delta of each pair at ``mean``, each (N, 1)."""
        expected = (mean[batch.pair_prompt] * self.difference).sum(-1, keepdim=True)
        label, weight = batch.preference.unsqueeze(-1), batch.pair_weight.unsqueeze(-1)
        delta = self.shrink * expected
        likelihood = conditionals.likelihood.given_margin(batch.margin_column)
        slope = weight * self.shrink * likelihood.score(delta, label)
        bend = weight * self.shrink**2 * likelihood.information(delta)
        return slope, bend, expected


def update_dirichlet(
    prior: dist.Dirichlet, pairs: PairEvidence, batch: FeatureBatch, conditionals: Conditionals
) -> dist.Dirichlet:
    """Move the mean of w by damped Newton steps, and add the curvature to the concentration.

    Source: spec 2.7.

    In coordinates theta with m = softmax(theta), the Dirichlet prior has gradient
    alpha - alpha_0 m and curvature alpha_0 m. A pair adds m (g - m'g) and m^2 h, with slope
    g and curvature h of its log-likelihood. Without pairs, q is the prior.
    """
    alpha = prior.concentration
    total = alpha.sum(-1, keepdim=True)
    prompt = batch.pair_prompt
    gain, curvature_gain = pairs.gains
    mean, curvature = alpha / total, torch.zeros_like(alpha)
    for _ in range(NEWTON_STEPS):
        pull, information, expected = pairs.derivatives(mean, batch, conditionals)
        slope = gain * pull * pairs.difference
        bend = (pairs.difference - expected) ** 2 * information
        slope = torch.zeros_like(alpha).index_add(0, prompt, slope)
        bend = torch.zeros_like(alpha).index_add(0, prompt, bend)
        centred = mean * (slope - (mean * slope).sum(-1, keepdim=True))
        curvature = curvature_gain * mean**2 * bend
        step = (alpha - total * mean + centred) / (total * mean + curvature + 1e-3)
        mean = torch.softmax(mean.log() + step.clamp(-1, 1), dim=-1)
    concentration = mean * (total + curvature.sum(-1, keepdim=True))
    return dist.Dirichlet(concentration.clamp(CONCENTRATION_FLOOR, CONCENTRATION_CAP))


def update_logistic_normal(
    prior: LogisticNormal, pairs: PairEvidence, batch: FeatureBatch, conditionals: Conditionals
) -> LogisticNormal:
    """Move u = H' log w by damped Newton steps; the covariance is the inverse curvature.

    Source: spec 2.7.

    The prior is Gaussian in u, so the slopes and precisions of pairs add to it. With
    w = softmax(H u), a pair has d Delta / du = H' (w * (g - w'g)). Without pairs, q is the prior.
    """
    basis = contrast_basis(prior.loc.shape[-1] + 1, prior.loc)
    prior_precision = torch.cholesky_inverse(prior.scale_tril)
    prompt = batch.pair_prompt
    gain, curvature_gain = pairs.gains
    u, precision = prior.loc, prior_precision
    for _ in range(NEWTON_STEPS):
        mean = prior.to_simplex(u)
        pull, information, expected = pairs.derivatives(mean, batch, conditionals)
        jacobian = (mean[prompt] * (pairs.difference - expected)) @ basis  # (N, K - 1)
        slope = torch.zeros_like(u).index_add(0, prompt, gain * pull * jacobian)
        outer = jacobian.unsqueeze(-1) * jacobian.unsqueeze(-2)
        bend = curvature_gain * information.unsqueeze(-1) * outer
        precision = prior_precision.index_add(0, prompt, bend)
        back = (prior_precision @ (prior.loc - u).unsqueeze(-1)).squeeze(-1)
        step = torch.linalg.solve(precision, (back + slope).unsqueeze(-1)).squeeze(-1)
        u = u + step.clamp(-1, 1)
    return LogisticNormal(u, inverse_factor(precision))


def inverse_factor(precision: Tensor) -> Tensor:
    """Return the lower Cholesky factor of precision^-1, shape (..., d, d)."""
    # With precision = U U' for an upper triangular U, the inverse is U^-T U^-1.
    flipped = torch.linalg.cholesky(precision.flip((-2, -1)))
    upper = flipped.flip((-2, -1))
    identity = torch.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    return torch.linalg.solve_triangular(upper.mT, identity.expand_as(upper), upper=False)

"""KL divergence between distributions of one latent: closed form, else by draws."""

import math
from typing import Final

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import kl_divergence
from torch.distributions.kl import register_kl

from vrm_pyro.models.distributions.gaussian import as_gaussian, is_gaussian
from vrm_pyro.models.distributions.logistic_normal import LogisticNormal, contrast_basis
from vrm_pyro.models.distributions.simplex import expected_log

Distribution = torch.distributions.Distribution

# Draws where no formula exists. One draw of log q - log p has many times the noise of the
# closed form (pitfall: Pyro falls back to a single particle without a warning).
NUM_DRAWS: Final = 32


def divergence(q: Distribution, p: Distribution, num_draws: int = NUM_DRAWS) -> Tensor:
    """Return KL(q || p) of every row, batch shape.

    For a point mass q it is -log p(point), the charge of a MAP estimate and not a divergence.
    Where no closed form is registered: an unbiased estimate by ``num_draws`` draws of q, whose
    value may be negative. Its gradient is unbiased too: through the draws where q can be
    reparameterised, else by the score function.

    >>> q, p = dist.Dirichlet(torch.full((4,), 5.0)), dist.Dirichlet(torch.ones(4))
    >>> divergence(q, p)  # spec 2.6
    tensor(1.4054)
    """
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        pass
    shape = torch.Size([num_draws])
    if q.has_rsample:
        draws = q.rsample(shape)
        return (q.log_prob(draws) - p.log_prob(draws)).mean(0)
    draws = q.sample(shape)
    log_q = q.log_prob(draws)
    ratio = log_q - p.log_prob(draws)
    # The other draws' mean is a baseline: it takes out noise and adds no bias.
    fixed = ratio.detach()
    baseline = (fixed.sum(0) - fixed) / max(num_draws - 1, 1)
    return (ratio + (fixed - baseline) * (log_q - log_q.detach())).mean(0)


def has_closed_divergence(q: Distribution, p: Distribution) -> bool:
    """Return whether KL(q || p) has a closed form, or one up to a fixed quadrature."""
    try:
        kl_divergence(q, p)
    except NotImplementedError:
        return False
    return True


@register_kl(dist.Dirichlet, LogisticNormal)
def _kl_dirichlet_logistic_normal(q: dist.Dirichlet, p: LogisticNormal) -> Tensor:
    """Closed: under q, u = H' log w has known mean and covariance."""
    alpha = q.concentration
    basis = contrast_basis(alpha.shape[-1], alpha)
    log_mean = expected_log(q)
    mean = log_mean @ basis
    covariance = (basis.T * torch.polygamma(1, alpha).unsqueeze(-2)) @ basis
    # E log N(u; loc, S) = log N(mean; loc, S) - tr(S^-1 Cov u) / 2.
    white = torch.linalg.solve_triangular(p.scale_tril, covariance, upper=False)
    trace = torch.linalg.solve_triangular(p.scale_tril, white.mT, upper=False)
    spread = trace.diagonal(dim1=-2, dim2=-1).sum(-1)
    jacobian = log_mean.sum(-1) + 0.5 * math.log(alpha.shape[-1])
    return -q.entropy() - (p.base.log_prob(mean) - 0.5 * spread - jacobian)


@register_kl(LogisticNormal, dist.Dirichlet)
def _kl_logistic_normal_dirichlet(q: LogisticNormal, p: dist.Dirichlet) -> Tensor:
    """Closed but for E logsumexp, which fixed nodes give (spec 2.6)."""
    log_mean = expected_log(q)
    size = log_mean.shape[-1]
    entropy = q.base.entropy() + log_mean.sum(-1) + 0.5 * math.log(size)
    alpha = p.concentration
    log_norm = torch.lgamma(alpha).sum(-1) - torch.lgamma(alpha.sum(-1))
    return -entropy - ((alpha - 1) * log_mean).sum(-1) + log_norm


@register_kl(dist.MultivariateNormal, dist.Independent)
def _kl_full_diagonal(q: dist.MultivariateNormal, p: dist.Independent) -> Tensor:
    if not is_gaussian(p):
        raise NotImplementedError
    diagonal = as_gaussian(p)
    square = q.variance + (q.loc - diagonal.loc) ** 2
    log_det = 2 * (diagonal.scale.log() - q.scale_tril.diagonal(dim1=-2, dim2=-1).log()).sum(-1)
    return 0.5 * ((square / diagonal.variance).sum(-1) - q.loc.shape[-1] + log_det)

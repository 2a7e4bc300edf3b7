"""Match a distribution of w by one of another family."""

from functools import singledispatch
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from vrm_pyro.models.distributions.logistic_normal import NUM_NODES, LogisticNormal, contrast_basis
from vrm_pyro.models.distributions.simplex import expected_log, weight_moments, weight_nodes


@singledispatch
def as_dirichlet(distribution: Any) -> dist.Dirichlet:
    """Return the Dirichlet with the mean of a distribution and the same sum of variances.

    A Dirichlet's variances are m_k (1 - m_k) / (alpha_0 + 1); one number alpha_0 can match their
    sum, not each.

    >>> as_dirichlet(dist.Dirichlet(torch.tensor([2.0, 1.0]))).concentration
    tensor([2., 1.])
    """
    mean, covariance = weight_moments(distribution)
    variance = covariance.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
    spread = (mean * (1 - mean)).sum(-1, keepdim=True)
    total = (spread / variance.clamp(min=torch.finfo(mean.dtype).tiny) - 1).clamp(1e-2, 1e6)
    return dist.Dirichlet(mean * total)


@as_dirichlet.register
def _(distribution: dist.Dirichlet) -> dist.Dirichlet:
    return distribution


@singledispatch
def as_logistic_normal(distribution: Any) -> LogisticNormal:
    """Return the logistic-normal with the same mean and covariance of u = H' log w."""
    nodes = weight_nodes(distribution, NUM_NODES)
    u = nodes.clamp(min=torch.finfo(nodes.dtype).tiny).log()
    u = u @ contrast_basis(nodes.shape[-1], nodes)
    centred = u - u.mean(0)
    covariance = torch.einsum("spk,spl->pkl", centred, centred) / len(u)
    return LogisticNormal(u.mean(0), _cholesky(covariance))


@as_logistic_normal.register
def _(distribution: LogisticNormal) -> LogisticNormal:
    return distribution


@as_logistic_normal.register
def _(distribution: dist.Dirichlet) -> LogisticNormal:
    """E log w_k = psi(alpha_k) - psi(alpha_0), Cov log w = diag psi'(alpha) + const (spec 2.7)."""
    basis = contrast_basis(distribution.concentration.shape[-1], distribution.concentration)
    spread = torch.polygamma(1, distribution.concentration)
    return LogisticNormal(
        expected_log(distribution) @ basis, _cholesky((basis.T * spread.unsqueeze(-2)) @ basis)
    )


def _cholesky(covariance: Tensor) -> Tensor:
    jitter = 1e-6 * covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    return torch.linalg.cholesky(covariance + jitter * identity)

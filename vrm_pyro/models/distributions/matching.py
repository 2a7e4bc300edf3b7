"""A law of w from one family, fitted to a law of another."""

from functools import singledispatch
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from vrm_pyro.models.distributions.logistic_normal import NUM_NODES, LogisticNormal, contrast_basis
from vrm_pyro.models.distributions.simplex import expected_log, weight_moments, weight_nodes


@singledispatch
def as_dirichlet(law: Any) -> dist.Dirichlet:
    """Return the Dirichlet with the mean of a law and the same sum of variances.

    A Dirichlet's variances are m_k (1 - m_k) / (alpha_0 + 1); one number alpha_0 can match their
    sum, not each.
    """
    mean, covariance = weight_moments(law)
    variance = covariance.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
    spread = (mean * (1 - mean)).sum(-1, keepdim=True)
    total = (spread / variance.clamp(min=torch.finfo(mean.dtype).tiny) - 1).clamp(1e-2, 1e6)
    return dist.Dirichlet(mean * total)


@as_dirichlet.register
def _(law: dist.Dirichlet) -> dist.Dirichlet:
    return law


@singledispatch
def as_logistic_normal(law: Any) -> LogisticNormal:
    """Return the logistic-normal with the mean and covariance of u = H' log w under a law."""
    nodes = weight_nodes(law, NUM_NODES)
    u = nodes.clamp(min=torch.finfo(nodes.dtype).tiny).log()
    u = u @ contrast_basis(nodes.shape[-1], nodes)
    centred = u - u.mean(0)
    covariance = torch.einsum("spk,spl->pkl", centred, centred) / len(u)
    return LogisticNormal(u.mean(0), _cholesky(covariance))


@as_logistic_normal.register
def _(law: LogisticNormal) -> LogisticNormal:
    return law


@as_logistic_normal.register
def _(law: dist.Dirichlet) -> LogisticNormal:
    """E log w_k = psi(alpha_k) - psi(alpha_0), Cov log w = diag psi'(alpha) + const (spec 2.7)."""
    basis = contrast_basis(law.concentration.shape[-1], law.concentration)
    spread = torch.polygamma(1, law.concentration)
    return LogisticNormal(
        expected_log(law) @ basis, _cholesky((basis.T * spread.unsqueeze(-2)) @ basis)
    )


def _cholesky(covariance: Tensor) -> Tensor:
    jitter = 1e-6 * covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    return torch.linalg.cholesky(covariance + jitter * identity)

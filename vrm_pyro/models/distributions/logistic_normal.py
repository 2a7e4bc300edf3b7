"""Logistic-normal distribution on the simplex, in isometric log-ratio coordinates."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.kl import register_kl

from vrm_pyro.models.distributions.quasi_random import normals

# For moments of w without a closed form; a scrambled Sobol net of this size is right to 1e-3.
NUM_NODES: Final = 512
# For E log w, which is unbounded: right to 1e-3 for distributions as wide as Dirichlet(1), to
# 2e-2 for Dirichlet(0.3) of 8 objectives. A step of training pays for each of them.
NUM_LOG_NODES: Final = 1024


@lru_cache(maxsize=16)
def _helmert(num_objectives: int) -> Tensor:
    """Return H, shape (K, K - 1): orthonormal columns, each orthogonal to the ones vector."""
    basis = torch.zeros(num_objectives, num_objectives - 1, dtype=torch.float64)
    for j in range(1, num_objectives):
        basis[:j, j - 1] = 1 / math.sqrt(j * (j + 1))
        basis[j, j - 1] = -j / math.sqrt(j * (j + 1))
    return basis


def contrast_basis(num_objectives: int, like: Tensor) -> Float[Tensor, "objectives coordinates"]:
    """Return H, K - 1 orthonormal columns, in dtype and device of ``like``: u = H' log w.

    The coordinates treat objectives alike: permuting them rotates u. Additive log-ratios against
    one objective do not, and an isotropic distribution in them prefers that objective.
    """
    return _helmert(num_objectives).to(like)


class LogisticNormal(dist.TorchDistribution):
    """w = softmax(H u), u ~ N(loc, L L'): objectives may go together or against each other.

    Source: spec 2.7.

    torch's own ``LogisticNormal`` has a diagonal covariance in stick-breaking coordinates, which
    depend on the order of the objectives.

    Args:
        loc: Mean of u = H' log w, shape (..., K - 1).
        scale_tril: L, lower triangular with positive diagonal, shape (..., K - 1, K - 1).

    >>> w = LogisticNormal(torch.zeros(2), torch.eye(2))
    >>> w.event_shape, w.to_simplex(torch.zeros(2))
    (torch.Size([3]), tensor([0.3333, 0.3333, 0.3333]))
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "scale_tril": constraints.lower_cholesky,
    }
    support = constraints.simplex
    has_rsample = True

    def __init__(self, loc: Tensor, scale_tril: Tensor, validate_args: bool | None = None) -> None:
        batch = torch.broadcast_shapes(loc.shape[:-1], scale_tril.shape[:-2])
        size = loc.shape[-1]
        self.loc = loc.expand(*batch, size)
        self.scale_tril = scale_tril.expand(*batch, size, size)
        super().__init__(batch, torch.Size([size + 1]), validate_args=validate_args)

    @property
    def base(self) -> dist.MultivariateNormal:
        """The distribution of u."""
        return dist.MultivariateNormal(self.loc, scale_tril=self.scale_tril, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "LogisticNormal":
        """Return the distribution with its parameters expanded to ``batch_shape``."""
        size = self.loc.shape[-1]
        return LogisticNormal(
            self.loc.expand(*batch_shape, size),
            self.scale_tril.expand(*batch_shape, size, size),
            validate_args=False,
        )

    def to_simplex(self, u: Tensor) -> Tensor:
        """Return softmax(H u), shape (..., K)."""
        return torch.softmax(u @ contrast_basis(u.shape[-1] + 1, u).T, dim=-1)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw w, reparameterised."""
        return self.to_simplex(self.base.rsample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log N(u) - sum_k log w_k - log(K) / 2, the density in w_1..w_{K-1}."""
        if self._validate_args:
            self._validate_sample(value)
        log_w = value.clamp(min=torch.finfo(value.dtype).tiny).log()
        u = log_w @ contrast_basis(value.shape[-1], value)
        jacobian = log_w.sum(-1) + 0.5 * math.log(value.shape[-1])
        return self.base.log_prob(u) - jacobian

    def nodes(self, num_draws: int) -> Tensor:
        """Return fixed, equally weighted nodes of w, shape (S, ..., K)."""
        return torch.softmax(self._log_ratio_nodes(num_draws), -2).movedim(-1, 0)

    def expected_normaliser(self) -> Tensor:
        """Return E logsumexp(H u), batch shape: what E log w lacks of a closed form."""
        return torch.logsumexp(self._log_ratio_nodes(NUM_LOG_NODES), -2).mean(-1)

    def _log_ratio_nodes(self, num_draws: int) -> Tensor:
        """Return nodes of H u, shape (..., K, S): softmax runs fastest over the last but one."""
        size = self.loc.shape[-1]
        basis, noise = contrast_basis(size + 1, self.loc), normals(num_draws, size, self.loc)
        # One product for each row, whatever stands beside it.
        spread = (basis @ self.scale_tril) @ noise.T.expand(*self.loc.shape[:-1], size, num_draws)
        return (self.loc @ basis.T).unsqueeze(-1) + spread

    @property
    def mean(self) -> Tensor:
        """E w by fixed quasi-random nodes; there is no closed form."""
        return self.nodes(NUM_NODES).mean(0)


@register_kl(LogisticNormal, LogisticNormal)
def _kl_same_map(q: LogisticNormal, p: LogisticNormal) -> Tensor:
    """Both are one map of a Gaussian: the KL of the two Gaussians, exactly (spec 2.6)."""
    return torch.distributions.kl_divergence(q.base, p.base)

"""Gaussian distributions of semantic features, diagonal or with a full covariance, seen alike."""

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor

Distribution = torch.distributions.Distribution


@dataclass(frozen=True)
class Gaussian:
    """z ~ N(loc, Sigma), one row a response.

    Args:
        loc: Mean, shape (R, d).
        scale: Standard deviations, shape (R, d), or the lower Cholesky factor of Sigma,
            (R, d, d).

    >>> z = Gaussian(torch.zeros(1, 2), torch.tensor([[1.0, 2.0]]))
    >>> z.covariance
    tensor([[[1., 0.],
             [0., 4.]]])
    >>> z.projected_variance(torch.tensor([[1.0, 1.0]]))
    tensor([5.])
    """

    loc: Tensor
    scale: Tensor

    @property
    def diagonal(self) -> bool:
        """Whether features are independent given the text."""
        return self.scale.dim() == self.loc.dim()

    @property
    def variance(self) -> Tensor:
        """Variance of every feature, shape (R, d)."""
        return self.scale**2 if self.diagonal else (self.scale**2).sum(-1)

    @property
    def covariance(self) -> Tensor:
        """Sigma, shape (R, d, d)."""
        if self.diagonal:
            return torch.diag_embed(self.scale**2)
        return self.scale @ self.scale.mT

    def rows(self, index: Tensor) -> "Gaussian":
        """Return the distributions of some rows."""
        return Gaussian(self.loc[index], self.scale[index])

    def projected_variance(self, direction: Tensor) -> Tensor:
        """Return v' Sigma v, shape (..., R), for directions v of shape (..., R, d)."""
        if self.diagonal:
            return (direction**2 * self.scale**2).sum(-1)
        # v'L as one product for each row, whatever stands before the rows.
        return (torch.einsum("...rd,rde->...re", direction, self.scale) ** 2).sum(-1)

    def factor(self, loading: Tensor) -> Tensor:
        """Return F = A L, shape (R, K, d), with A Sigma A' = F F', for a loading (K, d)."""
        return loading * self.scale.unsqueeze(-2) if self.diagonal else loading @ self.scale

    def mapped_variance(self, loading: Tensor) -> Tensor:
        """Return diag(A Sigma A'), shape (R, K)."""
        if self.diagonal:
            return self.scale**2 @ (loading**2).T
        return (self.factor(loading) ** 2).sum(-1)

    def natural(self) -> tuple[Tensor, Tensor]:
        """Return Sigma^-1 loc, shape (R, d), and Sigma^-1, shape (R, d, d)."""
        if self.diagonal:
            inverse = self.scale**-2
            return inverse * self.loc, torch.diag_embed(inverse)
        precision = torch.cholesky_inverse(self.scale)
        return (precision @ self.loc.unsqueeze(-1)).squeeze(-1), precision

    def distribution(self) -> Distribution:
        """Return the distribution: batch (R,), event (d,)."""
        if self.diagonal:
            return dist.Normal(self.loc, self.scale).to_event(1)
        return dist.MultivariateNormal(self.loc, scale_tril=self.scale)


def is_gaussian(distribution: Distribution) -> bool:
    """Return whether a distribution of z is Gaussian, or a point, which has no spread."""
    if isinstance(distribution, dist.Independent):
        return isinstance(distribution.base_dist, dist.Normal)
    return isinstance(distribution, dist.MultivariateNormal | dist.Delta)


def as_gaussian(distribution: Distribution) -> Gaussian:
    """Return loc and scale of a Gaussian distribution of z.

    Raises:
        TypeError: If it is no Gaussian: what integrates z in closed form cannot take it.
    """
    if isinstance(distribution, dist.Independent) and isinstance(
        distribution.base_dist, dist.Normal
    ):
        return Gaussian(distribution.base_dist.loc, distribution.base_dist.scale)
    if isinstance(distribution, dist.MultivariateNormal):
        return Gaussian(distribution.loc, distribution.scale_tril)
    if isinstance(distribution, dist.Delta):
        return Gaussian(distribution.v, torch.zeros_like(distribution.v))
    raise TypeError(
        f"{type(distribution).__name__} is not Gaussian, so features cannot be integrated in "
        "closed form."
    )

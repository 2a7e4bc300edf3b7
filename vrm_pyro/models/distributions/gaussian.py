"""Gaussian distributions of semantic features: one type for diagonal and full covariance."""

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

Distribution = torch.distributions.Distribution


@dataclass(frozen=True)
class Gaussian:
    """z ~ N(loc, Sigma), one row a response (spec 2.2).

    Args:
        loc: Mean.
        scale: Standard deviations, or the lower Cholesky factor of Sigma.

    >>> z = Gaussian(torch.zeros(1, 2), torch.tensor([[1.0, 2.0]]))
    >>> z.covariance
    tensor([[[1., 0.],
             [0., 4.]]])
    >>> z.projected_variance(torch.tensor([[1.0, 1.0]]))
    tensor([5.])
    """

    loc: Float[Tensor, "*rows features"]
    scale: Float[Tensor, "*rows features"] | Float[Tensor, "*rows features features"]

    @property
    def diagonal(self) -> bool:
        """Whether features are independent given the text."""
        return self.scale.dim() == self.loc.dim()

    @property
    def variance(self) -> Float[Tensor, "*rows features"]:
        """Variance of every feature."""
        return self.scale**2 if self.diagonal else (self.scale**2).sum(-1)

    @property
    def covariance(self) -> Float[Tensor, "*rows features features"]:
        """Sigma."""
        if self.diagonal:
            return torch.diag_embed(self.scale**2)
        return self.scale @ self.scale.mT

    def rows(self, index: Tensor) -> "Gaussian":
        """Return the distributions of some rows."""
        return Gaussian(self.loc[index], self.scale[index])

    def widened(self, variance: Float[Tensor, "*rows features"]) -> "Gaussian":
        """Return the distributions with ``variance`` added to each feature; diagonal alone."""
        assert self.diagonal
        return Gaussian(self.loc, (self.scale**2 + variance).sqrt())

    def projected_variance(
        self, direction: Float[Tensor, "*rows features"]
    ) -> Float[Tensor, "*rows"]:
        """Return v' Sigma v for directions v, with draws before the rows."""
        if self.diagonal:
            return (direction**2 * self.scale**2).sum(-1)
        # v'L as one product for each row, whatever stands before the rows.
        return (torch.einsum("...rd,rde->...re", direction, self.scale) ** 2).sum(-1)

    def factor(
        self, loading: Float[Tensor, "objectives features"]
    ) -> Float[Tensor, "*rows objectives features"]:
        """Return F = A L for a loading A: A Sigma A' = F F'."""
        return loading * self.scale.unsqueeze(-2) if self.diagonal else loading @ self.scale

    def mapped_variance(
        self, loading: Float[Tensor, "objectives features"]
    ) -> Float[Tensor, "*rows objectives"]:
        """Return diag(A Sigma A')."""
        if self.diagonal:
            return self.scale**2 @ (loading**2).T
        return (self.factor(loading) ** 2).sum(-1)

    def natural(
        self,
    ) -> tuple[Float[Tensor, "*rows features"], Float[Tensor, "*rows features features"]]:
        """Return Sigma^-1 loc and Sigma^-1."""
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

"""Laplace posterior of the last layer of a scalar reward."""

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

_SEED: Final = 20261130


class LastLayerPosterior(nn.Module):
    """N(v, (I + q / s^2)^-1) for the weights v of a last layer with q inputs.

    I is the Fisher information of the training labels at the estimate: each pair adds
    p (1 - p) d d', with d the difference of the last layer's inputs, as in logistic regression.
    The prior is N(0, s^2 / q). The bias drops out of every difference. Before :meth:`fit` nothing
    is uncertain.

    Source: MacKay (1992); the Bayesian linear head of RewardUQ.

    Args:
        size: Number q of inputs.
        prior_scale: s.
        num_draws: Number M of fixed draws for predictions, rounded up to an even one: they come
            in pairs around the estimate, so that their mean is the estimate.
    """

    factor: Tensor
    offsets: Tensor

    def __init__(self, size: int, prior_scale: float, num_draws: int) -> None:
        super().__init__()
        self.prior_precision = size / prior_scale**2
        self.register_buffer("factor", torch.zeros(size, size))
        self.register_buffer("offsets", torch.zeros(2 * math.ceil(num_draws / 2), size))

    @property
    def fitted(self) -> bool:
        """Whether :meth:`fit` has set the covariance."""
        return bool(self.factor.diagonal().gt(0).all())

    def fit(self, information: Float[Tensor, "size size"]) -> None:
        """Set the covariance from the information of the training labels, float64."""
        size = len(information)
        precision = information + self.prior_precision * torch.eye(size).to(information)
        factor = torch.linalg.cholesky(precision)
        self.factor.copy_(factor)
        generator = torch.Generator().manual_seed(_SEED)
        noise = torch.randn(size, len(self.offsets) // 2, generator=generator, dtype=factor.dtype)
        half = self._offsets(noise, factor)
        self.offsets.copy_(torch.cat([half, -half]))

    def variance(self, inputs: Float[Tensor, "rows size"]) -> Float[Tensor, " rows"]:
        """Return the variance of v'd for rows d."""
        if not self.fitted:
            return inputs.new_zeros(len(inputs))
        # d' (L L')^-1 d = |L^-1 d|^2
        root = torch.linalg.solve_triangular(self.factor, inputs.T, upper=False)
        return root.square().sum(0)

    def draw(self, num_draws: int, stream: torch.Generator) -> Float[Tensor, "draws size"]:
        """Return draws of v minus its estimate."""
        noise = torch.randn(len(self.factor), num_draws, generator=stream).to(self.factor)
        if not self.fitted:
            return torch.zeros_like(noise.T)
        return self._offsets(noise, self.factor)

    @staticmethod
    def _offsets(noise: Tensor, factor: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(factor.T, noise, upper=True).T

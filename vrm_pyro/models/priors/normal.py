"""Standard Normal prior over semantic features."""

from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from vrm_pyro.models.priors.base import FeaturePrior, check_positive


@dataclass(frozen=True)
class NormalPrior(FeaturePrior):
    """Isotropic Normal p(z) = N(0, scale^2 I), the same for every response (mode ``vib``).

    Source: spec 2.2.

    Args:
        scale: Standard deviation of every feature, in units of z.

    Raises:
        ValueError: If ``scale`` is not positive.

    >>> prior = NormalPrior(scale=2.0).build(hidden_size=5, latent_dim=3)
    >>> p_z = prior(torch.zeros(4, 5))  # four responses
    >>> p_z.batch_shape, p_z.event_shape, p_z.stddev[0]
    (torch.Size([4]), torch.Size([3]), tensor([2., 2., 2.]))
    """

    scale: float = 1.0

    conditional: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(self, scale=self.scale)

    def build(self, hidden_size: int, latent_dim: int) -> nn.Module:
        """Return the module; it ignores the response state."""
        return _Normal(self.scale, latent_dim)


class _Normal(nn.Module):
    scale: Tensor

    def __init__(self, scale: float, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.full((latent_dim,), scale))

    def forward(self, responses: Tensor) -> dist.Independent:
        scale = self.scale.expand(*responses.shape[:-1], -1)
        return dist.Normal(torch.zeros_like(scale), scale).to_event(1)

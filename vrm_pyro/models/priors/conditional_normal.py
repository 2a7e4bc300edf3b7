"""Normal prior whose loc and scale a network reads from the response."""

from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
from torch import Tensor, nn

from vrm_pyro.models.networks import NormalNetwork
from vrm_pyro.models.priors.base import FeaturePrior, check_network, check_positive


@dataclass(frozen=True)
class ConditionalNormalPrior(FeaturePrior):
    """Conditional prior p(z | x, y) = N(loc_theta(h), diag scale_theta(h)^2) (spec 2.2).

    Args:
        hidden_size: Hidden units of the network; 0 for a linear map.
        dropout: Probability of dropping a hidden unit in training.
        initial_scale: Standard deviation of every feature before training, in units of z.
        learn_scale: Learn the standard deviation of each response; if not, it stays at
            ``initial_scale``. With scores that are often unrated, a fixed scale keeps an unknown
            score an unsure one, so weight on it costs likelihood.

    Raises:
        ValueError: If a setting is out of range.

    >>> import torch
    >>> prior = ConditionalNormalPrior().build(hidden_size=5, latent_dim=3)
    >>> p_z = prior(torch.zeros(4, 5))
    >>> p_z.batch_shape, p_z.event_shape
    (torch.Size([4]), torch.Size([3]))
    """

    hidden_size: int = 128
    dropout: float = 0.0
    initial_scale: float = 0.5
    learn_scale: bool = True

    conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_network(self, self.hidden_size, self.dropout)
        check_positive(self, initial_scale=self.initial_scale)

    def build(self, hidden_size: int, latent_dim: int) -> nn.Module:
        """Return the network for response states of size ``hidden_size``."""
        return _ConditionalNormal(self.network(hidden_size, latent_dim))

    def network(self, hidden_size: int, latent_dim: int) -> NormalNetwork:
        """Return a fresh network from response states to loc and scale."""
        return NormalNetwork(
            hidden_size,
            latent_dim,
            self.hidden_size,
            self.dropout,
            self.initial_scale,
            self.learn_scale,
        )


class _ConditionalNormal(nn.Module):
    def __init__(self, network: NormalNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, responses: Tensor) -> dist.Independent:
        loc, scale = self.network(responses)
        return dist.Normal(loc, scale).to_event(1)

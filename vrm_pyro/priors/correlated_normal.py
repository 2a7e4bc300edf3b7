"""Normal prior with correlated features, its loc and scale read from the response."""

from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
from torch import Tensor, nn

from vrm_pyro.networks import CorrelationFactor, NormalNetwork
from vrm_pyro.priors.base import FeaturePrior, check_network, check_positive


@dataclass(frozen=True)
class CorrelatedNormalPrior(FeaturePrior):
    """Conditional prior p(z | x, y) = N(loc(h), D(h) R D(h)) with one correlation matrix R.

    What a text leaves open about its features may go together: a response that turns out clearer
    than it looks often turns out more complete. With linear scores a rotation of z could take up
    a *fixed* covariance; it cannot take up one whose scales differ between responses.

    Args:
        hidden_size: Hidden units of the network; 0 for a linear map.
        dropout: Probability of dropping a hidden unit in training.
        initial_scale: Standard deviation of every feature before training, in units of z.
        learn_scale: Learn the standard deviation of each response; if not, it stays at
            ``initial_scale``.

    Raises:
        ValueError: If a setting is out of range.
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
        network = NormalNetwork(
            hidden_size,
            latent_dim,
            self.hidden_size,
            self.dropout,
            self.initial_scale,
            self.learn_scale,
        )
        return _CorrelatedNormal(network, CorrelationFactor(latent_dim))


class _CorrelatedNormal(nn.Module):
    def __init__(self, network: NormalNetwork, correlation: CorrelationFactor) -> None:
        super().__init__()
        self.network, self.correlation = network, correlation

    def forward(self, responses: Tensor) -> dist.MultivariateNormal:
        loc, scale = self.network(responses)
        return dist.MultivariateNormal(loc, scale_tril=scale.unsqueeze(-1) * self.correlation())

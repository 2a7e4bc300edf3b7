"""Normal prior with correlated features, its loc and scale read from the response."""

from dataclasses import dataclass

import pyro.distributions as dist
from torch import Tensor, nn

from vrm_pyro.models.networks import CorrelationFactor, NormalNetwork
from vrm_pyro.models.priors.conditional_normal import ConditionalNormalPrior


@dataclass(frozen=True)
class CorrelatedNormalPrior(ConditionalNormalPrior):
    """Conditional prior p(z | x, y) = N(loc(h), D(h) R D(h)) with one correlation matrix R.

    Source: spec 2.2.

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

    >>> import torch
    >>> prior = CorrelatedNormalPrior().build(hidden_size=5, latent_dim=3)
    >>> p_z = prior(torch.zeros(4, 5))
    >>> p_z.batch_shape, p_z.event_shape
    (torch.Size([4]), torch.Size([3]))
    """

    def build(self, hidden_size: int, latent_dim: int) -> nn.Module:
        """Return the network for response states of size ``hidden_size``."""
        return _CorrelatedNormal(
            self.network(hidden_size, latent_dim), CorrelationFactor(latent_dim)
        )


class _CorrelatedNormal(nn.Module):
    def __init__(self, network: NormalNetwork, correlation: CorrelationFactor) -> None:
        super().__init__()
        self.network, self.correlation = network, correlation

    def forward(self, responses: Tensor) -> dist.MultivariateNormal:
        loc, scale = self.network(responses)
        return dist.MultivariateNormal(loc, scale_tril=scale.unsqueeze(-1) * self.correlation())

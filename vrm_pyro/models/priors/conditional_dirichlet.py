"""Dirichlet prior with a concentration that a network predicts from the prompt."""

from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
from torch import Tensor, nn

from vrm_pyro.models.networks import DirichletNetwork
from vrm_pyro.models.priors.base import WeightPrior, check_network, check_positive


@dataclass(frozen=True)
class ConditionalDirichletPrior(WeightPrior):
    """Conditional prior p(w | x) = Dir(alpha_theta(h)) (spec 2.2, mode ``conditional``).

    alpha = 0.1 + softplus(total) softmax(logits): mean and concentration are separate outputs
    of one network on the prompt state (spec 2.7).

    Args:
        hidden_size: Hidden units of the network; 0 for a linear map.
        dropout: Probability of dropping a hidden unit in training.
        initial_concentration: Mean concentration per objective before training.

    Raises:
        ValueError: If a setting is out of range.

    >>> import torch
    >>> prior = ConditionalDirichletPrior().build(hidden_size=5, num_objectives=3)
    >>> p_w = prior(torch.zeros(4, 5))
    >>> p_w.batch_shape, p_w.event_shape
    (torch.Size([4]), torch.Size([3]))
    """

    hidden_size: int = 128
    dropout: float = 0.0
    initial_concentration: float = 1.0

    conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_network(self, self.hidden_size, self.dropout)
        check_positive(self, initial_concentration=self.initial_concentration)

    def build(self, hidden_size: int, num_objectives: int) -> nn.Module:
        """Return the network for prompt states of size ``hidden_size``."""
        return _ConditionalDirichlet(
            DirichletNetwork(
                hidden_size,
                num_objectives,
                self.hidden_size,
                self.dropout,
                self.initial_concentration,
            )
        )


class _ConditionalDirichlet(nn.Module):
    def __init__(self, network: DirichletNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, prompts: Tensor) -> dist.Dirichlet:
        return dist.Dirichlet(self.network(prompts))

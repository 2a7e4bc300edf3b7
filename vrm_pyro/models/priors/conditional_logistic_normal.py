"""Logistic-normal prior whose loc and scale a network reads from the prompt."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from vrm_pyro.models.networks import LogisticNormalNetwork
from vrm_pyro.models.priors.base import WeightPrior, check_network, check_positive


@dataclass(frozen=True)
class ConditionalLogisticNormalPrior(WeightPrior):
    """Conditional prior p(w | x): H' log w ~ N(loc(h), D(h) R D(h)) (spec 2.2, 2.7).

    Full covariance: the scales D are read from the prompt, the correlations R are one matrix for
    all prompts. Objectives may matter together, or in place of each other.

    Args:
        hidden_size: Hidden units of the network; 0 for a linear map.
        dropout: Probability of dropping a hidden unit in training.
        initial_scale: Standard deviation of every contrast of log w before training; 0.9 is
            about a Dirichlet of concentration 2.

    Raises:
        ValueError: If a setting is out of range.

    >>> import torch
    >>> prior = ConditionalLogisticNormalPrior().build(hidden_size=5, num_objectives=3)
    >>> p_w = prior(torch.zeros(4, 5))
    >>> p_w.batch_shape, p_w.event_shape
    (torch.Size([4]), torch.Size([3]))
    """

    hidden_size: int = 128
    dropout: float = 0.0
    initial_scale: float = 0.9

    conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_network(self, self.hidden_size, self.dropout)
        check_positive(self, initial_scale=self.initial_scale)

    def build(self, hidden_size: int, num_objectives: int) -> nn.Module:
        """Return the network for prompt states of size ``hidden_size``."""
        return LogisticNormalNetwork(
            hidden_size, num_objectives, self.hidden_size, self.dropout, self.initial_scale
        )

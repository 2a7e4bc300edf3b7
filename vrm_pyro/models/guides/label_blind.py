"""Guide that reads the text alone (mode ``vib``)."""

from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.models.guides.base import Guide, GuideModule, LabelBlindModule
from vrm_pyro.models.networks import DirichletNetwork, NormalNetwork
from vrm_pyro.models.priors.base import check_network


@dataclass(frozen=True)
class LabelBlindGuide(Guide):
    """Mean-field Dirichlet x Normal given the text alone: q(w | x) q(z | x, y), mode ``vib``.

    Source: spec 2.2.

    Networks map backbone states to both distributions; outcomes are no input. The same q predicts
    on new text, so the objective is an information bottleneck.

    Args:
        hidden_size: Hidden units of both networks; 0 for linear maps.
        dropout: Probability of dropping a hidden unit in training.
        initial_scale: Standard deviation of q(z) before training.

    >>> import torch
    >>> guide = LabelBlindGuide().build(hidden_size=5, num_objectives=3, latent_dim=2)
    >>> guide.predict_weights(torch.zeros(4, 5)).event_shape
    torch.Size([3])
    """

    hidden_size: int = 128
    dropout: float = 0.0
    initial_scale: float = 0.5

    outcome_aware: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_network(self, self.hidden_size, self.dropout)

    def build(self, hidden_size: int, num_objectives: int, latent_dim: int) -> GuideModule:
        """Return the two networks."""
        return NetworkModule(
            DirichletNetwork(hidden_size, num_objectives, self.hidden_size, self.dropout, 1.0),
            NormalNetwork(
                hidden_size, latent_dim, self.hidden_size, self.dropout, self.initial_scale
            ),
        )


class NetworkModule(LabelBlindModule):
    """The networks of :class:`LabelBlindGuide`.

    Source: spec 2.2.
    """

    def __init__(self, to_concentration: DirichletNetwork, to_normal: NormalNetwork) -> None:
        super().__init__()
        self.to_concentration, self.to_normal = to_concentration, to_normal

    def predict_weights(self, prompts: Float[Tensor, "prompts hidden"]) -> dist.Dirichlet:
        """Return q(w | x) for standardised prompt states."""
        return dist.Dirichlet(self.to_concentration(prompts))

    def predict_features(self, responses: Float[Tensor, "responses hidden"]) -> dist.Independent:
        """Return q(z | x, y) for standardised response states."""
        loc, scale = self.to_normal(responses)
        return dist.Normal(loc, scale).to_event(1)

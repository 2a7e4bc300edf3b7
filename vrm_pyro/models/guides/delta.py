"""Point estimates of w and z: the ablation without uncertainty."""

from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vrm_pyro.models.guides.base import Guide, GuideModule, LabelBlindModule
from vrm_pyro.models.networks import mlp
from vrm_pyro.models.priors.base import check_network


@dataclass(frozen=True)
class DeltaGuide(Guide):
    """Point estimates of w and z by networks: maximum a posteriori, mode ``vib`` (spec 2.2).

    The objective is log p(outcomes | w, z) + log p(w) + log p(z) at these points. It is no bound
    on the evidence, because a point has no entropy. The maximum depends on the coordinates of w;
    here the density is the one on the simplex, which is flat under Dirichlet(1). Mode
    ``conditional`` refuses this guide: the density of a learned prior at a point is unbounded as
    its spread shrinks to zero.

    Args:
        hidden_size: Hidden units of both networks; 0 for linear maps.
        dropout: Probability of dropping a hidden unit in training.

    Raises:
        ValueError: If a setting is out of range.

    >>> guide = DeltaGuide().build(hidden_size=5, num_objectives=3, latent_dim=2)
    >>> guide.predict_weights(torch.zeros(4, 5)).variance.abs().max()  # a point
    tensor(0.)
    """

    hidden_size: int = 128
    dropout: float = 0.0

    outcome_aware: ClassVar[bool] = False
    point: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_network(self, self.hidden_size, self.dropout)

    def build(self, hidden_size: int, num_objectives: int, latent_dim: int) -> GuideModule:
        """Return the two networks."""
        return DeltaModule(
            mlp(hidden_size, self.hidden_size, num_objectives, self.dropout, out_gain=0.3),
            mlp(hidden_size, self.hidden_size, latent_dim, self.dropout),
        )


class DeltaModule(LabelBlindModule):
    """The networks of :class:`DeltaGuide`.

    Source: spec 2.2.
    """

    def __init__(self, to_weights: nn.Module, to_features: nn.Module) -> None:
        super().__init__()
        self.to_weights, self.to_features = to_weights, to_features

    def predict_weights(self, prompts: Float[Tensor, "prompts hidden"]) -> dist.Delta:
        """Return the point w for standardised prompt states."""
        return dist.Delta(torch.softmax(self.to_weights(prompts), -1), event_dim=1)

    def predict_features(self, responses: Float[Tensor, "responses hidden"]) -> dist.Delta:
        """Return the point z for standardised response states."""
        return dist.Delta(self.to_features(responses), event_dim=1)

"""Guide on the text alone with correlated objective weights."""

from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.models.distributions import LogisticNormal
from vrm_pyro.models.guides.base import Guide, GuideModule, LabelBlindModule
from vrm_pyro.models.networks import LogisticNormalNetwork, NormalNetwork
from vrm_pyro.models.priors.base import check_network, check_positive


@dataclass(frozen=True)
class LogisticNormalGuide(Guide):
    """Logistic-normal x Normal given the text alone: q(w | x) q(z | x, y), mode ``vib``.

    Source: spec 2.7.

    Unlike a Dirichlet, it represents weights that rise together or replace each other. Its KL is
    exact with `LogisticNormalPrior`; with a Dirichlet prior, one one-dimensional term needs
    quadrature.

    Args:
        hidden_size: Hidden units of both networks; 0 for linear maps.
        dropout: Probability of dropping a hidden unit in training.
        initial_scale: Standard deviation of q(z) before training.
        initial_weight_scale: Standard deviation of each contrast of log w before training; 0.9
            is close to a Dirichlet with concentration 2.

    Raises:
        ValueError: If a setting is out of range.
    """

    hidden_size: int = 128
    dropout: float = 0.0
    initial_scale: float = 0.5
    initial_weight_scale: float = 0.9

    outcome_aware: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_network(self, self.hidden_size, self.dropout)
        check_positive(
            self,
            initial_scale=self.initial_scale,
            initial_weight_scale=self.initial_weight_scale,
        )

    def build(self, hidden_size: int, num_objectives: int, latent_dim: int) -> GuideModule:
        """Return the two networks; with one objective the first is not used."""
        return LogisticNormalModule(
            LogisticNormalNetwork(
                hidden_size,
                max(num_objectives, 2),
                self.hidden_size,
                self.dropout,
                self.initial_weight_scale,
            ),
            NormalNetwork(
                hidden_size, latent_dim, self.hidden_size, self.dropout, self.initial_scale
            ),
        )


class LogisticNormalModule(LabelBlindModule):
    """The networks of :class:`LogisticNormalGuide`.

    Source: spec 2.7.
    """

    def __init__(self, to_weights: LogisticNormalNetwork, to_normal: NormalNetwork) -> None:
        super().__init__()
        self.to_weights, self.to_normal = to_weights, to_normal

    def predict_weights(self, prompts: Float[Tensor, "prompts hidden"]) -> LogisticNormal:
        """Return q(w | x) for standardised prompt states."""
        distribution: LogisticNormal = self.to_weights(prompts)
        return distribution

    def predict_features(self, responses: Float[Tensor, "responses hidden"]) -> dist.Independent:
        """Return q(z | x, y) for standardised response states."""
        loc, scale = self.to_normal(responses)
        return dist.Normal(loc, scale).to_event(1)

"""The posterior that a feature prior of the shrinkage kind has of its own map."""

from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.epistemic.base import ParameterPosterior
from vrm_pyro.models.priors.shrinkage import ShrinkageMap
from vrm_pyro.models.priors.shrinkage_normal import ShrinkageNormal


class ShrinkagePosterior(ParameterPosterior):
    """Draws of the map V of a prior such as ``ShrinkageNormalPrior`` under its q(V) (spec 2.2).

    It has no parameters: a :class:`ShrinkageNormal` holds prior and posterior, and draws V itself
    in training.

    Args:
        name: Name of the prior in the model.
        num_draws: Number M of fixed draws for predictions.
    """

    penalty_name = "kl_map"

    def __init__(self, name: str, num_draws: int) -> None:
        super().__init__({}, 1.0, num_draws)
        self.prior = name
        self.names = (f"{name}.loc",)

    def penalty(self, model: nn.Module) -> Tensor:
        """Return KL(q(V) || p(V)): training maximises the evidence lower bound over q."""
        return self.divergence(model)

    def training_draw(self, model: nn.Module) -> dict[str, Tensor]:
        """Return no values: in training the map draws V itself, anew for each prompt."""
        return {}

    def divergence(self, model: nn.Module) -> Tensor:
        """Return KL(q(V) || p(V)) in nats for the whole data set; a scalar."""
        return self.map_of(model).divergence()

    def draw(
        self, model: nn.Module, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return one draw of the map, by the name of its parameter."""
        return {self.names[0]: self.map_of(model).draw_map(generator)}

    def shifts(
        self, model: nn.Module, phi: Float[Tensor, "responses size"]
    ) -> Float[Tensor, "draws responses features"]:
        """Return what each fixed draw of the map adds to E z."""
        draws = [values[self.names[0]] for values in self.prediction_draws(model)]
        return self.map_of(model).shifts(phi, torch.stack(draws))

    def widened(
        self, model: nn.Module, features: dist.Independent, batch: FeatureBatch
    ) -> dist.Independent:
        """Return p(z | x, y) with V integrated out, responses of a prompt beside each other.

        Args:
            model: The model.
            features: p(z | x, y) at the mean of q(V).
            batch: Standardised batch.
        """
        doubt = self.map_of(model).variance_within(batch.responses, batch.response_prompt)
        base = features.base_dist
        return dist.Normal(base.loc, (base.scale.square() + doubt).sqrt()).to_event(1)

    def map_of(self, model: nn.Module) -> ShrinkageNormal:
        """Return the prior in the model whose map this is the posterior of."""
        owner = model.get_submodule(self.prior)
        assert isinstance(owner, ShrinkageNormal)
        return owner


def features_beside(model: Any, batch: FeatureBatch) -> dist.Distribution:
    """Return p(z | x, y) of the responses of each prompt beside each other (spec 2.2).

    Under a shrinkage prior responses of a prompt share the draw of V in training, and V is
    integrated out in evaluation mode; other priors take each response alone.
    """
    if model.training and isinstance(model.feature_prior, ShrinkageMap):
        return model.feature_prior(batch.responses, batch.response_prompt)
    features = model.feature_prior(batch.responses)
    if model.training or not isinstance(model.parameter_posterior, ShrinkagePosterior):
        return features
    return model.parameter_posterior.widened(model, features, batch)

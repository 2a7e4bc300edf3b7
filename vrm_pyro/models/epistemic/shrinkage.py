"""The posterior that a feature prior of the shrinkage kind has of its own map."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.epistemic.base import ParameterPosterior
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
        return self._map(model).divergence()

    def draw(
        self, model: nn.Module, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return one draw of the map, by the name of its parameter."""
        return {self.names[0]: self._map(model).draw_map(generator)}

    def difference_variance(
        self, model: nn.Module, states: Tensor, batch: FeatureBatch
    ) -> Float[Tensor, "pairs features"]:
        """Return the variance over q(V) of E z_first - E z_second; standardised states in."""
        return self._map(model).difference_variance(states, batch.pair_first, batch.pair_second)

    def variance_within(
        self, model: nn.Module, batch: FeatureBatch
    ) -> Float[Tensor, "responses features"]:
        """Return the variance over q(V) of each E z within its prompt; standardised batch in."""
        return self._map(model).variance_within(batch.responses, batch.response_prompt)

    def _map(self, model: nn.Module) -> ShrinkageNormal:
        owner = model.get_submodule(self.prior)
        assert isinstance(owner, ShrinkageNormal)
        return owner

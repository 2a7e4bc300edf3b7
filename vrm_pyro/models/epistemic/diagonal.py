"""Mean-field Gaussian posterior of the global parameters, learned with the model."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import softplus

from vrm_pyro.models.epistemic.base import ParameterPosterior
from vrm_pyro.models.networks import inverse_softplus

# Initial standard deviations as a fraction of the prior's: small, so that training starts as it
# would without them.
_INITIAL_SHARE = 0.05


class DiagonalPosterior(ParameterPosterior):
    """Mean-field Q = N(theta, diag s^2), with scales learned during training (spec 2.2).

    Args:
        parameters: Name and initial value of every uncertain parameter.
        prior_scale: Prior standard deviation of a parameter times sqrt(inputs of its layer).
        num_draws: Number M of fixed draws for predictions.
    """

    penalty_name = "kl_head"

    def __init__(
        self, parameters: Mapping[str, Tensor], prior_scale: float, num_draws: int
    ) -> None:
        super().__init__(parameters, prior_scale, num_draws)
        self.raw_scales = nn.ParameterList()
        for loc, scale in self.priors():
            start = inverse_softplus(_INITIAL_SHARE * scale.item())
            self.raw_scales.append(nn.Parameter(torch.full_like(loc, start)))

    def scales(self) -> list[Tensor]:
        """Return the standard deviations s > 0 of every parameter."""
        return [softplus(raw) for raw in self.raw_scales]

    def divergence(self, model: nn.Module) -> Tensor:
        """Return KL(Q || P) in nats for the whole data set; a scalar."""
        total = torch.zeros((), dtype=self.raw_scales[0].dtype, device=self.raw_scales[0].device)
        distributions = zip(self.values(model), self.scales(), self.priors(), strict=True)
        for loc, scale, prior in distributions:
            total = total + kl_divergence(Normal(loc, scale), Normal(*prior)).sum()
        return total

    def penalty(self, model: nn.Module) -> Tensor:
        """Return KL(Q || P): training maximises the evidence lower bound over Q."""
        return self.divergence(model)

    def training_draw(self, model: nn.Module) -> dict[str, Tensor]:
        """Return a new draw, with gradients to theta and s."""
        return self.draw(model)

    def draw(
        self, model: nn.Module, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return one reparameterised draw of the uncertain parameters, by name."""
        drawn = {}
        for name, loc, scale in zip(self.names, self.values(model), self.scales(), strict=True):
            # Draw on the CPU, so that a seed gives the same draw on every device.
            noise = torch.randn(scale.shape, generator=generator, dtype=torch.float64)
            drawn[name] = loc + scale * noise.to(scale)
        return drawn

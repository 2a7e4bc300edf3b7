"""Gaussians over the parameters of a trained model's head: P, Q and their KL (spec 3.3.2)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from vrm_pyro.errors import InputError
from vrm_pyro.models.epistemic.base import head_parameters, last_layers
from vrm_pyro.models.vrm import VRM

HEADS = ("reward", "reward_and_networks")


@dataclass(frozen=True)
class HeadParameters:
    """The parameters of a model in theta, and their trained values.

    Args:
        shapes: Shape of each parameter by its name in the model, in the order of theta.
        trained: theta_0, shape (p,), float64.
    """

    shapes: Mapping[str, torch.Size]
    trained: Tensor

    @classmethod
    def of(cls, model: VRM, head: str = "reward") -> "HeadParameters":
        """Return theta of a model.

        Args:
            model: A trained model.
            head: ``reward`` for those of A, b and log beta that are learned (A is fixed if the
                features are the scores, beta without ratings); ``reward_and_networks`` adds the
                last linear layer of each prior network.

        Raises:
            InputError: If ``head`` is unknown, or a prior has no network.
        """
        if head not in HEADS:
            raise InputError(f"head is {head!r}, but must be one of {', '.join(HEADS)}.")
        networks: dict[str, nn.Module] = {}
        if head == "reward_and_networks":
            names = ("weight_prior", "feature_prior")[model.num_objectives == 1 :]
            networks = {name: getattr(model, name) for name in names}
            for name, network in networks.items():
                if not last_layers(network):
                    raise InputError(
                        f"head reward_and_networks: {name} of this model has no network, so it "
                        "has no last layer. Use head reward."
                    )
        found = {
            name: value.detach().to("cpu", torch.float64)
            for name, value in head_parameters(model.reward, networks).items()
        }
        values = torch.cat([value.reshape(-1) for value in found.values()])
        return cls({name: value.shape for name, value in found.items()}, values)

    @property
    def size(self) -> int:
        """Number of parameters p."""
        return self.trained.numel()

    def unflatten(self, theta: Tensor, like: Tensor) -> dict[str, Tensor]:
        """Return the parameters by name for theta (p,), in dtype and device of ``like``."""
        parts = torch.split(theta, [shape.numel() for shape in self.shapes.values()])
        return {
            name: part.reshape(shape).to(like)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


@dataclass(frozen=True)
class GaussianHead:
    """Q = N(loc, diag scale^2) over theta.

    Args:
        loc: theta_1, shape (p,), float64.
        scale: Standard deviations, shape (p,), float64.
    """

    loc: Tensor
    scale: Tensor

    @classmethod
    def prior(cls, parameters: HeadParameters, scale: float) -> "GaussianHead":
        """Return P = N(theta_0, s0^2 I) around the trained values."""
        return cls(parameters.trained, torch.full_like(parameters.trained, scale))

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return one draw of theta, shape (p,)."""
        noise = torch.randn(self.loc.shape, generator=generator, dtype=self.loc.dtype)
        return self.loc + self.scale * noise

    def kl(self, prior: "GaussianHead") -> Tensor:
        """Return KL(Q || P) in nats, a scalar."""
        q, p = Normal(self.loc, self.scale), Normal(prior.loc, prior.scale)
        return kl_divergence(q, p).sum()

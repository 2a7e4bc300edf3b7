"""Gaussian law of the global parameters: what the training data leave open about the model."""

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from vrm_pyro.networks import inverse_softplus

T = TypeVar("T")

# Where the standard deviations start, in those of the prior: small, so that training begins as
# it would without them.
_INITIAL_SHARE = 0.05
_SEED = 20260305


class BayesianHead(nn.Module):
    """Mean-field Q = N(theta, diag s^2) over chosen parameters of a model (spec 2.2).

    theta are the model's own parameters, which stay what they are: its point estimate. The prior
    P is N(theta_0, s_0^2), with theta_0 = 0 for weights and matrices, the start value for
    vectors (biases, b) and scalars (log beta), and s_0 = ``prior_scale`` / sqrt(inputs) so that a
    wide layer is no wilder than a narrow one. The module does not hold the model: it gives values
    to be put in its place, :meth:`run`.

    Args:
        parameters: Name and start value of every parameter that is uncertain.
        prior_scale: Prior standard deviation of what one unit of input moves.
        num_draws: Fixed draws M for predictions.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], prior_scale: float, num_draws: int
    ) -> None:
        super().__init__()
        self.names = tuple(parameters)
        self.num_draws = num_draws
        self.raw_scales = nn.ParameterList()
        for i, value in enumerate(parameters.values()):
            inputs = value.shape[-1] if value.dim() > 1 else 1
            scale = prior_scale / math.sqrt(inputs)
            loc = torch.zeros_like(value) if value.dim() > 1 else value.detach().clone()
            self.register_buffer(f"prior_loc_{i}", loc)
            self.register_buffer(f"prior_scale_{i}", torch.tensor(scale))
            self.raw_scales.append(
                nn.Parameter(torch.full_like(value, inverse_softplus(_INITIAL_SHARE * scale)))
            )

    @property
    def num_parameters(self) -> int:
        """Number of uncertain parameters."""
        return sum(raw.numel() for raw in self.raw_scales)

    def scales(self) -> list[Tensor]:
        """Return s of every parameter, > 0."""
        return [softplus(raw) for raw in self.raw_scales]

    def divergence(self, model: nn.Module) -> Tensor:
        """Return KL(Q || P) in nats, once for the whole data set; a scalar."""
        locs = dict(model.named_parameters())
        total = torch.zeros((), dtype=self.raw_scales[0].dtype, device=self.raw_scales[0].device)
        for i, (name, scale) in enumerate(zip(self.names, self.scales(), strict=True)):
            prior_loc = self.get_buffer(f"prior_loc_{i}")
            prior_scale = self.get_buffer(f"prior_scale_{i}")
            ratio = (scale / prior_scale) ** 2
            shift = ((locs[name] - prior_loc) / prior_scale) ** 2
            total = total + 0.5 * (ratio + shift - 1 - ratio.log()).sum()
        return total

    def draw(
        self, model: nn.Module, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return one reparameterised draw of the uncertain parameters, by name."""
        locs = dict(model.named_parameters())
        values = {}
        for name, scale in zip(self.names, self.scales(), strict=True):
            # On the CPU, so that a fixed seed means the same draw on every device.
            noise = torch.randn(scale.shape, generator=generator, dtype=torch.float64)
            values[name] = locs[name] + scale * noise.to(scale)
        return values

    def prediction_draws(self, model: nn.Module) -> list[dict[str, Tensor]]:
        """Return the fixed draws that predictions average: the same for every text and call."""
        generator = torch.Generator().manual_seed(_SEED)
        return [self.draw(model, generator) for _ in range(self.num_draws)]


def run_with(model: nn.Module, values: Mapping[str, Tensor], function: Callable[[], T]) -> T:
    """Return ``function()`` with some parameters of ``model`` replaced while it runs."""
    caller = _Caller(model)
    replaced = {f"model.{name}": value for name, value in values.items()}
    result: T = functional_call(caller, replaced, (function,))
    return result


class _Caller(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[], T]) -> T:
        return function()


def head_parameters(
    reward: nn.Module, networks: Mapping[str, nn.Module], reward_name: str = "reward"
) -> dict[str, Tensor]:
    """Return by name A, b, log beta as far as they are learned, and last layers of networks.

    Args:
        reward: Module of the reward function.
        networks: Modules by their name in the model; of each chain of layers in them the last
            linear one is taken, and a linear layer that stands alone.
        reward_name: Name of ``reward`` in the model.
    """
    found: dict[str, Tensor] = {
        f"{reward_name}.{name}": value for name, value in reward.named_parameters()
    }
    for prefix, network in networks.items():
        chained: set[int] = set()
        for name, module in network.named_modules():
            path = ".".join(part for part in (prefix, name) if part)
            if isinstance(module, nn.Sequential):
                chained.update(id(layer) for layer in module)
                last = len(module) - 1
                if isinstance(module[last], nn.Linear):
                    found |= _of_layer(f"{path}.{last}", module[last])
            elif isinstance(module, nn.Linear) and id(module) not in chained:
                found |= _of_layer(path, module)
    return found


def _of_layer(path: str, layer: nn.Module) -> dict[str, Tensor]:
    return {f"{path}.{name}": value for name, value in layer.named_parameters()}

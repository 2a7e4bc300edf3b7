"""Posterior of the global parameters: base class, and running a model with drawn values."""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

T = TypeVar("T")
_SEED = 20260305


class ParameterPosterior(nn.Module):
    """Gaussian posterior Q of some parameters of a model, and their prior P (spec 2.2).

    The model's own parameters theta remain its point estimate. The prior P is N(theta_0, s_0^2),
    with theta_0 = 0 for matrices and the initial value for vectors (biases, b) and scalars
    (log beta). s_0 = ``prior_scale`` / sqrt(inputs), so the output variance of a layer does not
    grow with its width. The module does not hold the model: it returns drawn values, and
    :func:`run_with` runs the model with them.

    Args:
        parameters: Name and initial value of every uncertain parameter.
        prior_scale: Prior standard deviation of a parameter times sqrt(inputs of its layer).
        num_draws: Number M of fixed draws for predictions.
    """

    #: Name of the penalty in the training log.
    penalty_name: ClassVar[str]
    #: Names of parameters that stay point estimates.
    leaves_out: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self, parameters: Mapping[str, Tensor], prior_scale: float, num_draws: int
    ) -> None:
        super().__init__()
        self.names = tuple(parameters)
        self.num_draws = num_draws
        for i, value in enumerate(parameters.values()):
            inputs = value.shape[-1] if value.dim() > 1 else 1
            loc = torch.zeros_like(value) if value.dim() > 1 else value.detach().clone()
            self.register_buffer(f"prior_loc_{i}", loc)
            scale = torch.tensor(prior_scale / math.sqrt(inputs))
            self.register_buffer(f"prior_scale_{i}", scale)

    def priors(self) -> list[tuple[Tensor, Tensor]]:
        """Return theta_0 and the scalar s_0 of every parameter."""
        return [
            (self.get_buffer(f"prior_loc_{i}"), self.get_buffer(f"prior_scale_{i}"))
            for i in range(len(self.names))
        ]

    def values(self, model: nn.Module) -> list[Tensor]:
        """Return the current values theta of the uncertain parameters."""
        found = dict(model.named_parameters())
        return [found[name] for name in self.names]

    def penalty(self, model: nn.Module) -> Tensor:
        """Return the term that training adds to the loss, in nats for the whole data set."""
        raise NotImplementedError

    def training_draw(self, model: nn.Module) -> dict[str, Tensor]:
        """Return values for one training step by name; omitted parameters stay at theta."""
        raise NotImplementedError

    def divergence(self, model: nn.Module) -> Tensor:
        """Return KL(Q || P) in nats for the whole data set; a scalar."""
        raise NotImplementedError

    def draw(
        self, model: nn.Module, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return one draw of the uncertain parameters, by name."""
        raise NotImplementedError

    def prediction_draws(self, model: nn.Module) -> list[dict[str, Tensor]]:
        """Return the fixed draws that predictions average over, the same for every call."""
        generator = torch.Generator().manual_seed(_SEED)
        return [self.draw(model, generator) for _ in range(self.num_draws)]


def run_with(model: nn.Module, values: Mapping[str, Tensor], function: Callable[[], T]) -> T:
    """Call ``function()`` while some parameters of ``model`` have other values."""
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


def head_parameters(reward: nn.Module, networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return the learned ones of A, b and log beta, and the last layers of networks, by name.

    Args:
        reward: The module ``reward`` of a model.
        networks: Other modules by their name in the model; see :func:`last_layers`.
    """
    found: dict[str, Tensor] = {
        f"reward.{name}": value for name, value in reward.named_parameters()
    }
    for name, network in networks.items():
        for path, layer in last_layers(network).items():
            prefix = ".".join(part for part in (name, path) if part)
            found |= {f"{prefix}.{key}": value for key, value in layer.named_parameters()}
    return found


def last_layers(network: nn.Module) -> dict[str, nn.Linear]:
    """Return the last linear layer of each ``Sequential`` and all other linear layers, by name."""
    found: dict[str, nn.Linear] = {}
    chained: set[int] = set()
    for name, module in network.named_modules():
        if isinstance(module, nn.Sequential):
            chained.update(id(layer) for layer in module)
            last = module[-1]
            if isinstance(last, nn.Linear):
                found[".".join(part for part in (name, str(len(module) - 1)) if part)] = last
        elif isinstance(module, nn.Linear) and id(module) not in chained:
            found[name] = module
    return found

"""Copy a distribution with all parameters detached or cast to float64."""

import copy
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

AnyDistribution = TypeVar("AnyDistribution", bound=torch.distributions.Distribution)


def detach(distribution: AnyDistribution) -> AnyDistribution:
    """Return a copy of a distribution whose parameters carry no gradient."""
    return cast(AnyDistribution, _mapped(distribution, Tensor.detach))


def to_double(distribution: AnyDistribution) -> AnyDistribution:
    """Return a copy of a distribution in float64."""
    return cast(AnyDistribution, _mapped(distribution, _double))


def _double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    # Works for any family that keeps its parameters as tensors, or in other distributions or
    # transforms of torch's kind.
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_mapped(item, change) for item in value)
    if isinstance(value, nn.Module):
        raise TypeError(
            f"{type(value).__name__} is a network inside a distribution: its parameters cannot be "
            "changed there. Build the distribution from their values."
        )
    if not isinstance(value, torch.distributions.Distribution | torch.distributions.Transform):
        return value
    result = copy.copy(value)
    for name, item in vars(value).items():
        object.__setattr__(result, name, _mapped(item, change))
    return result

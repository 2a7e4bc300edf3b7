"""A distribution with its parameters changed one and all: without gradient, or in float64."""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

AnyLaw = TypeVar("AnyLaw", bound=torch.distributions.Distribution)


def detach(law: AnyLaw) -> AnyLaw:
    """Return a copy of a distribution whose parameters carry no gradient."""
    return _mapped(law, Tensor.detach)


def to_double(law: AnyLaw) -> AnyLaw:
    """Return a copy of a distribution in float64."""
    return _mapped(law, lambda value: value.double() if value.is_floating_point() else value)


def _mapped(law: AnyLaw, change: Callable[[Tensor], Tensor]) -> AnyLaw:
    # Works for any family that keeps its parameters as tensors or as other distributions, which
    # all of torch's and Pyro's do.
    result = copy.copy(law)
    for name, value in vars(law).items():
        if isinstance(value, Tensor):
            object.__setattr__(result, name, change(value))
        elif isinstance(value, torch.distributions.Distribution):
            object.__setattr__(result, name, _mapped(value, change))
    return result

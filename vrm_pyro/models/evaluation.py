"""Run a module in evaluation mode, or as a float64 copy."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from vrm_pyro.models.local_parameters import local_parameters

AnyModule = TypeVar("AnyModule", bound=nn.Module)


@contextmanager
def double_copy(model: AnyModule) -> Iterator[AnyModule]:
    """Give a float64 copy on the CPU, without gradients: the user's model stays as it is.

    Densities and KLs of sharp distributions need the digits.
    """
    copied = copy.deepcopy(model).to("cpu", torch.float64)
    with evaluation_mode(copied):
        yield copied


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[torch.device]:
    """Switch off dropout and gradients for a block, then restore the mode of every module.

    Callers such as RL trainers never call ``eval()`` on a reward model; predictions must not
    depend on that.

    Yields:
        The device of the model.
    """
    modes = [(module, module.training) for module in model.modules()]
    device = next((t.device for t in model.state_dict().values()), torch.device("cpu"))
    model.eval()
    try:
        with torch.no_grad(), local_parameters():
            yield device
    finally:
        for module, mode in modes:
            module.training = mode

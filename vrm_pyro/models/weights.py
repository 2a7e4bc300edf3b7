"""Weights of a saved model: read, and checked against what its settings need."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vrm_pyro.errors import InputError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        InputError: If it is truncated or none.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: truncated or not safetensors ({error}).") from error


def check_state(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str, settings: str
) -> None:
    """Raise InputError unless tensors are those of a model: names, shapes, types, finite numbers.

    >>> check_state({"a": torch.zeros(2)}, {"a": torch.zeros(3)}, "m.safetensors", "its settings")
    Traceback (most recent call last):
    vrm_pyro.errors.InputError: ...

    Args:
        state: What was read.
        expected: Tensors of the model; their values do not count.
        where: Begins messages: the file.
        settings: What messages call the origin of ``expected``.
    """
    for problem, names in (
        ("lacks", expected.keys() - state.keys()),
        ("has an unexpected", state.keys() - expected.keys()),
    ):
        if names:
            raise InputError(
                f"{where}: {problem} tensor {min(names)!r} for {settings}; the two do not belong "
                "together."
            )
    for name, tensor in expected.items():
        found = state[name]
        if tensor.shape != found.shape:
            raise InputError(
                f"{where}: tensor {name!r} has shape {tuple(found.shape)}, {settings} need "
                f"{tuple(tensor.shape)}; the two do not belong together."
            )
        if found.is_floating_point() != tensor.is_floating_point():
            raise InputError(
                f"{where}: tensor {name!r} holds {found.dtype}, but must hold {tensor.dtype}. "
                "Restore the file."
            )
        check_finite(found, name, where)


def check_finite(tensor: Tensor, name: str, where: str) -> None:
    """Raise InputError if a tensor holds NaN or infinity."""
    # One sum is several times faster than a mask; a sum that overflows is looked at again.
    if not tensor.is_floating_point() or torch.isfinite(tensor.sum(dtype=torch.float64)):
        return
    bad = tensor[~torch.isfinite(tensor)]
    if len(bad):
        raise InputError(
            f"{where}: tensor {name!r} holds {len(bad):,} numbers that are not finite, such as "
            f"{bad[0].item()}, but must hold finite ones. Restore the file."
        )

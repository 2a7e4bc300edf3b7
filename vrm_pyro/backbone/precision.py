"""Precision in which a backbone computes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from vrm_pyro.errors import InputError


def choose_precision(dtype: str, device: torch.device) -> str:
    """Return ``bfloat16`` or ``float32`` for a setting on a device.

    Raises:
        InputError: If there is no such setting.
    """
    if dtype not in ("auto", "float32", "bfloat16"):
        raise InputError(f"dtype is {dtype!r}, but must be one of auto, float32, bfloat16.")
    if dtype == "auto":
        return "bfloat16" if has_native_bfloat16(device) else "float32"
    return dtype


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are faster than in float32 on a device.

    On a CPU this needs AVX512-BF16 or AMX. Without either, bfloat16 is emulated and slower, so
    float32 is used; likewise where this version of torch cannot tell.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name)() for name in checks if hasattr(torch.cpu, name))


def prepare(model: Any, precision: str) -> Any:
    """Return a model for frozen use: weights in a precision, without its unused pooler."""
    if getattr(model, "pooler", None) is not None:
        # Unused here, and missing from many checkpoints: then it would be random on every load.
        model.pooler = None
    if precision == "float32" or next(model.parameters()).dtype == torch.float16:
        # float16 weights under bfloat16 autocast would lose range in layers that are not cast.
        model = model.float()
    return model.eval().requires_grad_(False)


@contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """Compute matrix products in a precision; an outer autocast is kept."""
    low = precision == "bfloat16" or torch.is_autocast_enabled(device.type)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=low):
        yield

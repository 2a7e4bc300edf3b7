"""Check what a resumed run loads with torch: optimizer, schedule, random states, loss scaler."""

import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from transformers.trainer import OPTIMIZER_NAME, SCALER_NAME, SCHEDULER_NAME
from transformers.trainer_pt_utils import safe_globals

from vrm_pyro.data.artefacts import short
from vrm_pyro.errors import InputError

_REMEDY: Final = "Resume from another checkpoint, or start over with --overwrite."
#: States that have the shape of their parameter, in torch's optimizers.
_SHAPED: Final = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")
_ADAM: Final = ("step", "exp_avg", "exp_avg_sq")


def check_optimizer(checkpoint: Path, optimizer: Any, schedule: Any) -> None:
    """Raise InputError unless a checkpoint's optimizer and schedule are like those of this run.

    A fused optimizer reads moments of another shape beyond their memory.

    Args:
        checkpoint: Folder of the checkpoint.
        optimizer: The optimizer that was just made.
        schedule: Its learning rate schedule.
    """
    path = checkpoint / OPTIMIZER_NAME
    if path.is_file():
        held = _load(path)
        parameters = [value for group in optimizer.param_groups for value in group["params"]]
        _raise(path, next(_optimizer_problems(held, optimizer.param_groups, parameters), None))
    path = checkpoint / SCHEDULER_NAME
    if path.is_file():
        _raise(path, problem("", _load(path), schedule.state_dict()))


def check_scaler(checkpoint: Path, scaler: Any) -> None:
    """Raise InputError unless a checkpoint's loss scaler is like that of this run."""
    path = checkpoint / SCALER_NAME
    if path.is_file():
        if scaler is None:
            raise InputError(f"{path}: this run has no loss scaler. {_REMEDY}")
        _raise(path, problem("", _load(path), scaler.state_dict()))


def check_random(checkpoint: Path, name: str) -> None:
    """Raise InputError unless a checkpoint's random states can be set."""
    path = checkpoint / name
    if not path.is_file():
        return
    held = _load(path)
    wanted = {
        "python": random.Random(0).getstate(),
        "numpy": np.random.RandomState(0).get_state(),
        "cpu": torch.random.get_rng_state(),
    }
    _raise(path, problem("", held, wanted, closed=False))


def _load(path: Path) -> Any:
    try:
        with safe_globals():
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file from elsewhere may raise anything
        why = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: is no file of torch without code ({why}). {_REMEDY}") from error


def _raise(path: Path, found: str | None) -> None:
    if found is not None:
        raise InputError(f"{path}: {found}. {_REMEDY}")


def problem(name: str, held: Any, wanted: Any, closed: bool = True) -> str | None:
    """Return how a value differs in kind from one that this run has, or None.

    >>> problem("last_epoch", 3, 0), problem("last_epoch", "three", 0)
    (None, "'last_epoch' is 'three', but must be a finite number")

    Args:
        name: Dotted name of the value.
        held: What was read.
        wanted: What this run has in its place: of the same kind, size and range.
        closed: Whether keys that this run does not have are refused.
    """
    subject = f"{name!r} is {short(held)}" if name else f"the content is {short(held)}"
    if isinstance(wanted, Mapping):
        if not isinstance(held, Mapping):
            return f"{subject}, but must be an object"
        names = {key: f"{name}.{key}".lstrip(".") for key in {*held, *wanted}}
        for key in wanted:
            if key not in held:
                return f"{names[key]!r} is missing"
            found = problem(names[key], held[key], wanted[key], closed)
            if found is not None:
                return found
        more = [key for key in held if key not in wanted]
        return f"{names[more[0]]!r} is unknown to this run" if closed and more else None
    if isinstance(wanted, Tensor | np.ndarray):
        alike = type(held) is type(wanted) and (held.shape, held.dtype) == (
            wanted.shape,
            wanted.dtype,
        )
        words = f"{wanted.dtype} of shape {tuple(wanted.shape)}"
        return None if alike else f"{subject}, but must be {words}"
    if isinstance(wanted, list | tuple):
        if not isinstance(held, list | tuple) or len(held) != len(wanted):
            return f"{subject}, but must be a list of {len(wanted)} values"
        items = enumerate(zip(held, wanted, strict=True))
        return next(filter(None, (problem(f"{name}.{i}", *two, closed) for i, two in items)), None)
    if isinstance(wanted, bool):
        return None if held is None or isinstance(held, bool) else f"{subject}, but must be a bool"
    if isinstance(wanted, int | float):
        right = isinstance(held, int | float) and not isinstance(held, bool)
        right = right and (math.isfinite(held) or not math.isfinite(wanted))
        low = isinstance(wanted, int) and wanted >= 0
        if not right:
            return f"{subject}, but must be a finite number"
        return f"{subject}, but must be at least 0" if low and held < 0 else None
    if isinstance(wanted, str):
        return None if held == wanted else f"{subject}, but must be {wanted!r}"
    if wanted is None and not isinstance(held, bool | int | float | dict | None):
        return f"{subject}, but must be null"
    return None


def _optimizer_problems(held: Any, groups: Any, parameters: list[Tensor]) -> Iterator[str]:
    if not isinstance(held, dict) or not {"state", "param_groups"} <= set(held):
        yield f"the content is {short(held)}, but must hold 'state' and 'param_groups'"
        return
    wanted: list[dict[str, Any]] = []
    for group in groups:
        start = sum(len(item["params"]) for item in wanted)
        places = list(range(start, start + len(group["params"])))
        wanted.append({**group, "params": places})
    groups_held = held["param_groups"]
    if isinstance(groups_held, list) and len(groups_held) == len(wanted):
        # Another version of torch writes other settings of a group.
        for number, group in enumerate(groups_held):
            known = set(group) if isinstance(group, dict) else set()
            wanted[number] = {k: v for k, v in wanted[number].items() if k in {*known, "params"}}
    found = problem("param_groups", groups_held, wanted, closed=False)
    if found is not None:
        yield found
        return
    places = [place for group in held["param_groups"] for place in group["params"]]
    if places != list(range(len(parameters))):
        yield f"'param_groups' names the parameters {short(places)}, but must name each once"
    for group in held["param_groups"]:
        for name in ("lr", "initial_lr", "weight_decay", "eps"):
            if isinstance(group.get(name), int | float) and group[name] < 0:
                yield f"{name!r} is {group[name]}, but must be at least 0"
        if not all(0 <= beta < 1 for beta in group.get("betas", ())):
            yield f"'betas' is {group['betas']}, but must be in [0, 1)"
    state = held["state"]
    if not isinstance(state, dict) or not set(state) <= set(places):
        yield "'state' must be an object with the states of the parameters"
        return
    adam = all("betas" in group for group in groups)
    for place, values in state.items():
        yield from _state_problems(f"state.{place}", values, parameters[place], adam)


def _state_problems(name: str, values: Any, parameter: Tensor, adam: bool) -> Iterator[str]:
    if not isinstance(values, dict):
        yield f"{name!r} is {short(values)}, but must be an object"
        return
    for key in _ADAM if adam and values else ():
        if key not in values:
            yield f"'{name}.{key}' is missing"
    for key, value in values.items():
        subject = f"'{name}.{key}'"
        shaped = key in _SHAPED and value is not None
        if shaped and not (
            isinstance(value, Tensor)
            and value.shape == parameter.shape
            and value.is_floating_point()
        ):
            yield f"{subject} is {_words(value)}, but must have shape {tuple(parameter.shape)}"
        elif key == "step" and not (
            isinstance(value, int | float) or (isinstance(value, Tensor) and value.dim() == 0)
        ):
            yield f"{subject} is {_words(value)}, but must be a number"
        elif isinstance(value, Tensor) and value.is_floating_point():
            if not torch.isfinite(value).all():
                yield f"{subject} must be finite"
            if key in ("exp_avg_sq", "max_exp_avg_sq", "step") and (value < 0).any():
                yield f"{subject} must be at least 0"


def _words(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return short(value)

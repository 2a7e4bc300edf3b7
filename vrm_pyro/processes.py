"""Processes that compute one thing together: who writes, who speaks, who waits.

Launchers such as ``torchrun`` and ``accelerate launch`` start a program once for each device and
say in the environment which of them it is. A program that was started plainly is alone.
"""

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist

from vrm_pyro.errors import EndedElsewhere

T = TypeVar("T")

# What one process computes while another waits may take hours.
_PATIENCE: Final = timedelta(days=7)
# Seconds that the main process has to say what is wrong before another one does.
_FIRST_WORD: Final = 3.0
_FAILURES: Final = "vrm_pyro/failures"


def world_size() -> int:
    """Return the number of processes that were started together."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def rank() -> int:
    """Return the number of this process among them, from 0."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that writes files and speaks to the user."""
    return rank() == 0


def join() -> None:
    """Meet the other processes, in a program that has no Trainer to do it; each takes its GPU."""
    if world_size() == 1 or dist.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("gloo", timeout=_PATIENCE)


def leave() -> None:
    """Take leave of the other processes, if there are any."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def wait() -> None:
    """Return when all processes have come here."""
    gather(None)


def gather(value: T) -> list[T]:
    """Return what all processes hand in, in the order of their ranks."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def on_main(action: Callable[[], T]) -> T:
    """Return what an action gives in the main process; the others wait for it and get a copy.

    Raises:
        EndedElsewhere: In the others, when the action raised in the main process.
    """
    if world_size() == 1:
        return action()
    outcome: list[Any] = [False, None]
    try:
        if is_main():
            outcome = [True, action()]
    finally:
        dist.broadcast_object_list(outcome, src=0)
    if not outcome[0]:
        raise EndedElsewhere
    result: T = outcome[1]
    return result


def fails_first() -> bool:
    """Whether no process of this run has reported a failure before; the first to ask is told so.

    One failure makes the others fail, at the next number they wait for: the first is the cause.
    """
    if world_size() == 1:
        return True
    if not dist.is_initialized():
        # They have not met yet. Most likely all fail alike, and the launcher ends this one.
        if not is_main():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(_FIRST_WORD)
        return True
    try:
        store: Any = dist.distributed_c10d._get_default_store()
        return int(store.add(_FAILURES, 1)) == 1
    except RuntimeError:  # the process that keeps the store is gone, after its own message
        return False


def lost_contact(error: Exception) -> bool:
    """Whether an error says that another process is gone."""
    if isinstance(error, dist.DistError):
        return True
    words = ("connection closed by peer", "connection reset by peer", "broken pipe")
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)

"""The processes that share a run, as torchrun or accelerate launch starts them."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from vrm_pyro.errors import InputError

Value = TypeVar("Value")


def num_processes() -> int:
    """Return how many processes share the run: what the launcher says, 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_index() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Return whether this is the process that writes files and talks to the user."""
    return process_index() == 0


def from_main(make: Callable[[], Value]) -> Value:
    """Return what a function returns in the main process; the others wait for the value.

    The processes must have met already, as they do when ``TrainingArguments.device`` is asked for.

    Args:
        make: Called in the main process alone. Its value must pickle.

    Raises:
        InputError: In all processes, with the same message, if it is raised in the main one.
    """
    if num_processes() == 1:
        return make()
    import torch.distributed as dist  # the command line starts without it

    outcome: list[Any] = [None, None]
    if is_main():
        try:
            outcome = [make(), None]
        except InputError as error:
            outcome = [None, str(error)]
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise InputError(outcome[1])
    value: Value = outcome[0]
    return value


def wait_for_all() -> None:
    """Return once every process has come here."""
    if num_processes() > 1:
        import torch.distributed as dist

        dist.barrier()


def part() -> None:
    """Leave the group of processes, if there is one, at the end of a run."""
    if num_processes() > 1:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()

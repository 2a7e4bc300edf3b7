"""The processes that share a run, as torchrun or accelerate launch starts them."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

from vrm_pyro.errors import EndedElsewhere, InputError

Value = TypeVar("Value")

# What one process computes while others wait for it may take hours.
_PATIENCE: Final = timedelta(days=7)
# Seconds that the main process has to say what is wrong before another one does.
_FIRST_WORD: Final = 5.0
_ENDED: Final = "ended"


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
        EndedElsewhere: In the others, if anything else is raised in the main one.
    """
    if num_processes() == 1:
        return make()
    import torch.distributed as dist  # the command line starts without it

    outcome: list[Any] = [None, _ENDED]
    try:
        if is_main():
            outcome = [make(), None]
    except InputError as error:
        outcome = [None, str(error)]
    finally:
        dist.broadcast_object_list(outcome, src=0)
    if outcome[1] == _ENDED:
        raise EndedElsewhere
    if outcome[1] is not None:
        raise InputError(outcome[1])
    value: Value = outcome[0]
    return value


def from_all(value: Value) -> list[Value]:
    """Return what all processes hand in, in their order."""
    if num_processes() == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * num_processes()
    dist.all_gather_object(values, value)
    return values


def meet() -> None:
    """Join the other processes, in a verb that has no Trainer to do it; each takes its GPU."""
    if num_processes() == 1:
        return
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_PATIENCE)


def wait_for_all() -> None:
    """Return once every process has come here."""
    if num_processes() > 1:
        import torch.distributed as dist

        dist.barrier()


@dataclass(frozen=True)
class Share:
    """Which part of the work this process does.

    Args:
        count: Number of processes.
        index: Which of them this is.
        together: Whether a launcher started them, so that they can wait for each other.
    """

    count: int = 1
    index: int = 0
    together: bool = False

    @property
    def alone(self) -> bool:
        """Whether this process does all the work."""
        return self.count == 1

    @property
    def speaks(self) -> bool:
        """Whether this process shows its progress."""
        return not self.together or is_main()

    def begin(self, action: Callable[[], None]) -> None:
        """Run an action before the work: once where a launcher started the processes."""
        if self.together:
            from_main(action)
        else:
            action()


def part() -> None:
    """Leave the group of processes, if there is one, at the end of a run."""
    if num_processes() > 1:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()


def fails_first() -> bool:
    """Whether no process has reported a failure before; the first to ask is told so.

    One failure makes the others fail, where they wait for that process next: the first is the
    cause. Processes that have not met yet most likely all fail alike: the main one is then told
    so at once, and others only if the launcher has not ended them soon after.
    """
    if num_processes() == 1:
        return True
    import torch.distributed as dist

    if not dist.is_initialized():
        if not is_main():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(_FIRST_WORD)
        return True
    try:
        store: Any = dist.distributed_c10d._get_default_store()
        return int(store.add("vrm_pyro/failures", 1)) == 1
    except RuntimeError:  # the process that keeps the store is gone, after its own message
        return False


def lost_contact(error: Exception) -> bool:
    """Whether an error says that another process is gone."""
    if num_processes() == 1:
        return False
    import torch.distributed as dist

    words = ("connection closed by peer", "connection reset by peer", "broken pipe")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )

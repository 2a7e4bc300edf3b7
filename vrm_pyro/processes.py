"""The processes of a run, as started by torchrun or accelerate launch."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

from vrm_pyro.errors import EndedElsewhere, InputError

Value = TypeVar("Value")

# Timeout for waiting: other processes may wait hours for work of one.
_PATIENCE: Final = timedelta(days=7)
# Seconds in which the main process can report an error before another one does.
_FIRST_WORD: Final = 5.0
_ENDED: Final = "ended"


def num_processes() -> int:
    """Return the number of processes in the run; 1 without a launcher.

    Examples:
        >>> num_processes()
        1
    """
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_index() -> int:
    """Return the index of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Return whether this process writes files and prints messages."""
    return process_index() == 0


def from_main(make: Callable[[], Value]) -> Value:
    """Call a function in the main process and return its value in all processes.

    The process group must exist; reading ``TrainingArguments.device`` creates it.

    Args:
        make: Called in the main process only. Its value must be picklable.

    Raises:
        InputError: In all processes, with the same message, if ``make`` raises it.
        EndedElsewhere: In the other processes, if ``make`` raises anything else.

    Examples:
        >>> from_main(lambda: "a value")
        'a value'
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
    """Return the values of all processes, in their order.

    Examples:
        >>> from_all(0.5)
        [0.5]
    """
    if num_processes() == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * num_processes()
    dist.all_gather_object(values, value)
    return values


def meet() -> None:
    """Create the process group and choose the GPU, in a verb without a Trainer."""
    if num_processes() == 1:
        return
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_PATIENCE)


def wait_for_all() -> None:
    """Wait until every process has called this."""
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
    """Destroy the process group, if there is one, at the end of a run."""
    if num_processes() > 1:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()


def fails_first() -> bool:
    """Return True in the first process that calls this after a failure, False in later ones.

    The first failure is the cause: other processes fail when they next wait for that process.
    Before the process group exists, all processes most likely fail alike. The main process then
    gets True at once. The others get True only if the launcher has not killed them within a few
    seconds.
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
    except RuntimeError:  # the process that holds the store has ended, after its own message
        return False


def lost_contact(error: Exception) -> bool:
    """Return whether an error means that another process has ended."""
    if num_processes() == 1:
        return False
    import torch.distributed as dist

    words = ("connection closed by peer", "connection reset by peer", "broken pipe")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )

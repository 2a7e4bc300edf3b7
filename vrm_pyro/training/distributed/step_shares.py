"""Steps of a resumed run, dealt out to the processes that there are now."""

import logging
from pathlib import Path

from transformers import TrainingArguments

from vrm_pyro.errors import InputError
from vrm_pyro.processes import from_main
from vrm_pyro.training.manifest import StepShape, read_step
from vrm_pyro.training.resume import find_checkpoint

log = logging.getLogger(__name__)


def find_start(arguments: TrainingArguments, fixed_batches: bool) -> str | None:
    """Return the checkpoint to go on from, or None; a step then takes the prompts it took.

    Args:
        arguments: Settings of the run. With another number of processes than before, their batch
            size and accumulation are changed.
        fixed_batches: Whether batches are groups that have to stay as they are.

    Raises:
        InputError: When a checkpoint is named that is not whole, or the steps of the run cannot
            be shared evenly by this number of processes.
    """
    found = from_main(lambda: find_checkpoint(arguments))
    if found is None:
        return None
    before = read_step(Path(found))
    now = deal(before, arguments.world_size, fixed_batches)
    if now != before:
        log.warning(
            "The run was on %s; on %s it goes on with batches of %d, %d for a step of each: the "
            "same prompts in a step. Draws of latents and dropout are others than before.",
            _processes(before.processes),
            _processes(now.processes),
            now.batch,
            now.accumulated,
        )
    arguments.per_device_train_batch_size = now.batch
    arguments.gradient_accumulation_steps = now.accumulated
    return found


def deal(before: StepShape, processes: int, fixed_batches: bool) -> StepShape:
    """Return steps of the same prompts for another number of processes.

    Batches stay as large as they are where that is possible, since they fit in memory, and become
    smaller where it is not.

    Raises:
        InputError: If there are no such steps.
    """
    batches, rest = divmod(before.processes * before.accumulated, processes)
    if batches and not rest:
        return StepShape(processes, before.batch, batches)
    if not fixed_batches and before.prompts % processes == 0:
        share = before.prompts // processes
        size = max(n for n in range(1, min(before.batch, share) + 1) if share % n == 0)
        return StepShape(processes, size, share // size)
    what = (
        f"{before.processes * before.accumulated} batches of a token budget"
        if fixed_batches
        else f"{before.prompts} prompts"
    )
    raise InputError(
        f"A step of this run takes {what}, which {processes} processes cannot share evenly. "
        f"Resume on {_processes(before.processes)}, or on a number that divides them."
    )


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"

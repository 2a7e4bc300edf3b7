"""Redistribute the steps of a resumed run over the current number of processes."""

import logging
from pathlib import Path

from transformers import TrainingArguments

from vrm_pyro.errors import InputError
from vrm_pyro.processes import from_main
from vrm_pyro.training.manifest import StepShape, read_step
from vrm_pyro.training.resume import find_checkpoint

log = logging.getLogger(__name__)


def find_start(arguments: TrainingArguments, fixed_batches: bool) -> str | None:
    """Return the checkpoint to resume from, or None for a fresh start.

    A resumed step takes the same prompts as before, on any number of processes.

    Args:
        arguments: Settings of the run. Batch size and gradient accumulation are changed in place
            if the number of processes has changed.
        fixed_batches: Whether batches are groups that cannot be split (a token budget).

    Raises:
        InputError: If the named checkpoint is incomplete, or if this number of processes cannot
            share the steps of the run evenly.
    """
    found = from_main(lambda: find_checkpoint(arguments))
    if found is None:
        return None
    before = read_step(Path(found))
    now = deal(before, arguments.world_size, fixed_batches)
    if now != before:
        log.warning(
            "The run was on %s. On %s it resumes with %d prompts in a batch and %d batches in a "
            "step of each process: the same prompts in a step. Random draws of latents and "
            "dropout differ from those before.",
            _processes(before.processes),
            _processes(now.processes),
            now.batch,
            now.accumulated,
        )
    arguments.per_device_train_batch_size = now.batch
    arguments.gradient_accumulation_steps = now.accumulated
    return found


def deal(before: StepShape, processes: int, fixed_batches: bool) -> StepShape:
    """Return the shape of a step with the same prompts on another number of processes.

    The batch size stays the same where possible, since such batches fit in memory. Otherwise
    batches become smaller, never larger.

    Args:
        before: The shape of a step so far.
        processes: The new number of processes.
        fixed_batches: Whether batches are groups that cannot be split.

    Raises:
        InputError: If the prompts of a step cannot be shared evenly.

    Examples:
        >>> deal(StepShape(2, 8, 1), 1, fixed_batches=False)
        StepShape(processes=1, batch=8, accumulated=2)
        >>> deal(StepShape(1, 8, 1), 2, fixed_batches=False)
        StepShape(processes=2, batch=4, accumulated=1)
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

"""A run of the Trainer, from where it was to its end."""

import logging
import os
from pathlib import Path

import torch
from transformers import TrainingArguments

from vrm_pyro.errors import InputError
from vrm_pyro.manifest import StepShape, checkpoint_problem, read_step
from vrm_pyro.processes import on_main, world_size
from vrm_pyro.resume import find_checkpoint, is_over, load_weights, read_state
from vrm_pyro.trainer import ModelTrainer, diverged
from vrm_pyro.training_module import TrainingModule
from vrm_pyro.tuning import TextModule

log = logging.getLogger(__name__)


def find_start(arguments: TrainingArguments, fixed_batches: bool) -> Path | None:
    """Return the checkpoint to go on from, or None; a step then has as many prompts as before.

    Args:
        arguments: Settings of the run. With another number of processes than before, their batch
            size and accumulation are changed.
        fixed_batches: Whether batches are groups that have to stay as they are.

    Raises:
        InputError: When a checkpoint is named that is not whole, or the steps of the run cannot
            be dealt out to this number of processes.
    """
    found = on_main(lambda: find_checkpoint(arguments))
    if found is None:
        return None
    before = read_step(Path(found))
    if before.processes == world_size():
        now = before
    else:
        now = deal(before, world_size(), fixed_batches)
        log.warning(
            "The run was on %s; on %s it goes on with batches of %d, %d for a step of each: the "
            "same prompts in a step as before.",
            _processes(before.processes),
            _processes(now.processes),
            now.batch,
            now.accumulated,
        )
    arguments.per_device_train_batch_size = now.batch
    arguments.gradient_accumulation_steps = now.accumulated
    return Path(found)


def deal(before: StepShape, processes: int, fixed_batches: bool) -> StepShape:
    """Return steps of the same prompts for another number of processes.

    Batches stay as large as they are where that is possible: they fit in memory.

    Raises:
        InputError: If there are none.
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


def fit(
    trainer: ModelTrainer,
    module: TrainingModule | TextModule,
    arguments: TrainingArguments,
    patience: int,
    checkpoint: Path | None,
) -> float:
    """Train to the end or find that it was reached before; return the seconds it took.

    Leaves the best weights in the module, if there is a checkpoint of them.
    """
    seconds = 0.0
    reached = None if checkpoint is None else read_state(checkpoint)
    if checkpoint and reached and is_over(arguments, reached, patience):
        # Stopped after its last step but before its end: the Trainer would take one step more.
        trainer.state = reached
        load_weights(module, checkpoint)
    else:
        try:
            with trainer.stop.listen(arguments):
                outcome = trainer.train(
                    resume_from_checkpoint=None if checkpoint is None else str(checkpoint)
                )
        except ValueError as error:
            # States are finite, so what a distribution refuses comes from the weights.
            if not str(error).startswith("Expected parameter"):
                raise
            raise diverged(arguments) from error
        seconds = outcome.metrics["train_runtime"]
    if arguments.load_best_model_at_end and trainer.state.best_global_step:
        # By number: the path that the Trainer notes is wrong once a run was moved.
        name = f"checkpoint-{trainer.state.best_global_step}"
        best = Path(str(arguments.output_dir)) / name
        problem = on_main(lambda: checkpoint_problem(best))
        if problem is not None:
            raise InputError(
                f"{best}: the checkpoint with the best validation log loss is gone or damaged "
                f"({problem}). Train again with --overwrite."
            )
        load_weights(module, best)
    return seconds


def check_devices(arguments: TrainingArguments) -> None:
    """Meet the other processes, and refuse ways of working together that are not supported.

    Raises:
        InputError: If the settings or the launcher ask for one.
    """
    asked = [
        name
        for name, given in (
            ("FSDP", arguments.fsdp or os.environ.get("ACCELERATE_USE_FSDP") == "true"),
            (
                "DeepSpeed",
                arguments.deepspeed or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true",
            ),
        )
        if given
    ]
    if asked:
        raise InputError(
            f"{asked[0]} is asked for, by train.{asked[0].lower()} or by accelerate's config, but "
            "training on several devices holds the whole backbone on each of them. Use torchrun, "
            "or accelerate launch --multi_gpu, and tuning.method lora where memory is short."
        )
    _ = arguments.device  # transformers sets up the connection here


def use_one_device(arguments: TrainingArguments) -> None:
    """Have a process that is alone compute on one of several GPUs.

    transformers would copy the model to all of them within the process, which a Pyro program does
    not take.
    """
    if arguments.n_gpu > 1:
        log.warning(
            "%d GPUs, of which a single process uses one. To use all: "
            "torchrun --nproc_per_node %d scripts/train_svi.py ...",
            arguments.n_gpu,
            torch.cuda.device_count(),
        )
        arguments._n_gpu = 1


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"

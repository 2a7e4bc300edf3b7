"""Where a stopped run goes on: whole checkpoints, and whether training was over already."""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from vrm_pyro.checkpoint import WEIGHTS_FILE
from vrm_pyro.errors import InputError
from vrm_pyro.manifest import MANIFEST, checkpoint_problem
from vrm_pyro.tuning import frozen_names

logger = logging.getLogger(__name__)

# What torch.save says when a file does not take what it writes.
_TORCH_SAVE: Final = ("PytorchStreamWriter", "inline_container")


class EarlyStopping(TrainerCallback):
    """Stop by the history of evaluations alone.

    transformers' own callback counts in a field that a resume sets back to zero, or else restores
    together with the patience of the first start.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask the Trainer to stop once the metric has not improved for long enough."""
        if is_over(args, state, self.patience):
            control.should_training_stop = True


def is_over(arguments: TrainingArguments, state: TrainerState, patience: int) -> bool:
    """Return whether training is at its last step, or has not improved for long enough."""
    if 0 < arguments.max_steps <= state.global_step:
        return True
    name = f"eval_{str(arguments.metric_for_best_model).removeprefix('eval_')}"
    values = [entry[name] for entry in state.log_history if name in entry]
    if not patience or not values:
        return False
    best = np.argmax(values) if arguments.greater_is_better else np.argmin(values)
    return len(values) - 1 - int(best) >= patience


def find_checkpoint(arguments: TrainingArguments) -> str | None:
    """Return the checkpoint to resume from, or None for a fresh start.

    Checkpoints that were cut off while being written, or damaged since, are passed over with a
    warning that names the file.

    Raises:
        InputError: When a checkpoint is named that is not there or not whole.
    """
    wanted = arguments.resume_from_checkpoint
    if wanted in (None, False, "false", "False", ""):
        return None
    if wanted not in (True, "true", "True"):
        problem = checkpoint_problem(Path(str(wanted)))
        if problem is not None:
            raise InputError(
                f"train.resume_from_checkpoint: {wanted} is no whole checkpoint ({problem}). Give "
                "true to go on from the newest one in train.output_dir, or another folder "
                "checkpoint-N."
            )
        return str(wanted)
    for path in checkpoints(Path(str(arguments.output_dir))):
        problem = checkpoint_problem(path)
        if problem is None:
            return str(path)
        logger.warning("%s; this checkpoint is passed over.", problem)
    logger.warning("%s holds no whole checkpoint; starting afresh.", arguments.output_dir)
    return None


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, whole or not, the newest first."""
    numbered = [
        (int(path.name.rpartition("-")[2]), path)
        for path in run.glob("checkpoint-*")
        if path.name.rpartition("-")[2].isdigit()
    ]
    return [path for _, path in sorted(numbered, reverse=True)]


@contextmanager
def saving(checkpoint: Path) -> Iterator[None]:
    """Write a checkpoint in a block; one that cannot be written is removed, and said to be.

    Raises:
        InputError: If the disk is full, or refuses otherwise.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(mark in str(error) for mark in _TORCH_SAVE):
            raise
        reason = error.strerror if isinstance(error, OSError) else None
        shutil.rmtree(checkpoint, ignore_errors=True)
        earlier = [p for p in checkpoints(checkpoint.parent) if (p / MANIFEST).is_file()]
        rest = (
            f"{earlier[0]} is the last one that is whole. Free space, then go on from it with "
            "--train.resume_from_checkpoint true."
            if earlier
            else "It was the first one. Free space and start again."
        )
        raise InputError(
            f"{checkpoint}: the checkpoint cannot be written ({reason or _first_line(error)}); "
            f"what there was of it is removed. {rest}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def read_state(checkpoint: Path) -> TrainerState:
    """Return transformers' record of training at a checkpoint."""
    path = checkpoint / TRAINER_STATE_NAME
    return TrainerState(**json.loads(path.read_text(encoding="utf-8")))


def load_weights(module: nn.Module, checkpoint: Path) -> None:
    """Load the weights of a checkpoint into the module that was trained.

    Raises:
        InputError: If it holds other tensors than those that are trained.
    """
    state = load_file(checkpoint / WEIGHTS_FILE)
    expected = module.state_dict().keys() - frozen_names(module)
    if state.keys() != expected:
        differing = sorted(state.keys() ^ expected)
        raise InputError(
            f"{checkpoint / WEIGHTS_FILE}: holds other tensors than this run trains, such as "
            f"{differing[0]!r}. Resume with the settings it was started with."
        )
    module.load_state_dict(state, strict=False)

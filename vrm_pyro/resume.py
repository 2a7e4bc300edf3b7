"""Where a stopped run goes on: whole checkpoints, and whether training was over already."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from vrm_pyro.checkpoint import WEIGHTS_FILE
from vrm_pyro.errors import InputError
from vrm_pyro.tuning import frozen_names

logger = logging.getLogger(__name__)


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

    Checkpoints that were cut off while being written are passed over.

    Raises:
        InputError: When a checkpoint is named that is not there or not whole.
    """
    wanted = arguments.resume_from_checkpoint
    if wanted in (None, False, "false", "False", ""):
        return None
    if wanted not in (True, "true", "True"):
        if not is_whole(Path(str(wanted))):
            raise InputError(
                f"train.resume_from_checkpoint: {wanted} is no whole checkpoint. Give true to go "
                "on from the newest one in train.output_dir, or another folder checkpoint-N."
            )
        return str(wanted)
    whole = [
        (int(path.name.rpartition("-")[2]), path)
        for path in Path(str(arguments.output_dir)).glob("checkpoint-*")
        if path.name.rpartition("-")[2].isdigit() and is_whole(path)
    ]
    if not whole:
        logger.warning("%s holds no checkpoint yet; starting afresh.", arguments.output_dir)
        return None
    return str(max(whole)[1])


def is_whole(checkpoint: Path) -> bool:
    """Return whether a checkpoint was written to its end: the last of its files can be read."""
    if not (checkpoint / WEIGHTS_FILE).is_file():
        return False
    try:
        read_state(checkpoint)
    except (OSError, ValueError):
        return False
    return True


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

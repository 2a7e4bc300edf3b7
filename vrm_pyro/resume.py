"""Where a stopped run goes on: whole checkpoints, and whether training was over already."""

import errno
import json
import logging
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState

from vrm_pyro.checkpoint import WEIGHTS_FILE
from vrm_pyro.errors import InputError
from vrm_pyro.tuning import frozen_names

logger = logging.getLogger(__name__)

# What a file system says that takes no more: full, over quota, too large, gone bad.
_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


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
    found = [
        (int(path.name.rpartition("-")[2]), path)
        for path in Path(str(arguments.output_dir)).glob("checkpoint-*")
        if path.name.rpartition("-")[2].isdigit()
    ]
    for _, path in sorted(found, reverse=True):
        problem = damage(path)
        if problem is None:
            return str(path)
        logger.warning("%s: %s; an earlier checkpoint is looked for.", path, problem)
    logger.warning("%s holds no whole checkpoint; starting afresh.", arguments.output_dir)
    return None


def is_whole(checkpoint: Path) -> bool:
    """Return whether a checkpoint was written to its end and nothing of it was cut since."""
    return damage(checkpoint) is None


def damage(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None.

    Looked at is whether every file is there from its beginning to its end, not every number.
    """
    if not (checkpoint / TRAINER_STATE_NAME).is_file():  # transformers writes it last
        return "was not written to its end"
    try:
        read_state(checkpoint)
    except (OSError, ValueError, TypeError):
        return f"{TRAINER_STATE_NAME} cannot be read"
    try:
        with safe_open(checkpoint / WEIGHTS_FILE, "pt"):
            pass
    except (OSError, SafetensorError):
        return f"{WEIGHTS_FILE} is missing or cut off"
    torch_files = [checkpoint / "optimizer.pt", checkpoint / "scheduler.pt"]
    for path in (*torch_files, *sorted(checkpoint.glob("rng_state*.pth"))):
        # torch writes zip archives, whose list of contents stands at their end.
        if path.exists() and not zipfile.is_zipfile(path):
            return f"{path.name} is cut off"
    return None


def disk_problem(folder: Path, error: Exception) -> InputError | None:
    """Return the error to show when a checkpoint could not be written, None for other faults."""
    refused = isinstance(error, OSError) and error.errno in _REFUSALS
    # torch and safetensors tell in words alone.
    words = ("file write failed", "No space left", "PytorchStreamWriter", "I/O error")
    if not refused and not any(word in str(error) for word in words):
        return None
    free = shutil.disk_usage(next(p for p in folder.parents if p.exists())).free
    reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
    return InputError(
        f"{folder}: the checkpoint could not be written ({reason}); {free / 2**20:,.0f} MiB are "
        "free there. Earlier checkpoints are as they were. Make room, then go on with the same "
        "command and --train.resume_from_checkpoint true."
    )


class WholeBatch(TrainerCallback, ExportableState):
    """Notes in every checkpoint how many prompts all processes take together in a batch."""

    def __init__(self, arguments: TrainingArguments) -> None:
        self.prompts = arguments.per_device_train_batch_size * arguments.world_size

    def state(self) -> dict[str, Any]:
        """Return what the checkpoint keeps."""
        return {"args": {}, "attributes": {"prompts": self.prompts}}


def keep_whole_batch(arguments: TrainingArguments, checkpoint: Path) -> None:
    """Share the batch of a resumed run among the processes there are now.

    Prompts of one process times processes stay what they were, so steps and epochs keep their
    numbers. Sets ``per_device_train_batch_size``.

    Raises:
        InputError: If the batch cannot be shared evenly.
    """
    callbacks: Any = read_state(checkpoint).stateful_callbacks or {}
    kept = callbacks.get(WholeBatch.__name__)
    if not isinstance(kept, dict):
        return
    whole, now = int(kept["attributes"]["prompts"]), arguments.world_size
    if whole % now:
        raise InputError(
            f"{checkpoint}: the run takes {whole} prompts in a batch, which {now} processes "
            "cannot share evenly. Resume with a number of processes that divides it."
        )
    if whole // now != arguments.per_device_train_batch_size:
        arguments.per_device_train_batch_size = whole // now
        logger.warning(
            "The run takes %d prompts in a batch: %d in each of the %d processes now. Draws of "
            "latents and dropout are others than with the number of processes it began with.",
            whole,
            whole // now,
            now,
        )


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

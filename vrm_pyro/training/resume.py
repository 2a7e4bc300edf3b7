"""Resume a run: find an intact checkpoint, load it, and tell whether training was finished."""

import errno
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from vrm_pyro.backbone.sharding import shard_like
from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import WEIGHTS_FILE
from vrm_pyro.training.finetuning import frozen_names
from vrm_pyro.training.manifest import damage

logger = logging.getLogger(__name__)

# Error codes of a file system that cannot write: full, over quota, file too large, I/O error.
_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class EarlyStopping(TrainerCallback):
    """Stop early, judged by the logged evaluations alone.

    transformers' own callback counts in a field that a resume either resets to zero or restores
    together with the patience of the first start.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop when the metric has not improved for ``patience`` evaluations."""
        if is_over(args, state, self.patience):
            control.should_training_stop = True


def is_over(arguments: TrainingArguments, state: TrainerState, patience: int) -> bool:
    """Return whether training reached its last step or ran out of patience."""
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

    Checkpoints that are incomplete or changed since they were written are skipped with a warning
    that names the file.

    Raises:
        InputError: If the named checkpoint is missing or incomplete.
    """
    wanted = arguments.resume_from_checkpoint
    if wanted in (None, False, "false", "False", ""):
        return None
    if wanted not in (True, "true", "True"):
        problem = damage(Path(str(wanted)))
        if problem is not None:
            raise InputError(
                f"train.resume_from_checkpoint: {wanted} is not a complete checkpoint: {problem}. "
                "Give true to resume from the newest one in train.output_dir, or another folder "
                "checkpoint-N."
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
        logger.warning("%s: %s; looking for an earlier checkpoint.", path, problem)
    logger.warning("%s holds no complete checkpoint; starting anew.", arguments.output_dir)
    return None


def is_whole(checkpoint: Path) -> bool:
    """Return whether a checkpoint is complete and unchanged since it was written."""
    return damage(checkpoint) is None


def disk_problem(folder: Path, error: Exception) -> InputError | None:
    """Return the error to show if the disk refused a checkpoint, None for other errors."""
    refused = isinstance(error, OSError) and error.errno in _REFUSALS
    # torch and safetensors raise errors without a code.
    words = ("PytorchStreamWriter", "inline_container", "No space left", "I/O error")
    if not refused and not any(word in str(error) for word in words):
        return None
    free = shutil.disk_usage(next(p for p in folder.parents if p.exists())).free
    reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
    return InputError(
        f"{folder}: the checkpoint could not be written ({reason}); {free / 2**20:,.0f} MiB are "
        "free there. Earlier checkpoints are intact. Free some space, then resume with the same "
        "command and --train.resume_from_checkpoint true."
    )


def read_state(checkpoint: Path) -> TrainerState:
    """Return transformers' record of training at a checkpoint."""
    path = checkpoint / TRAINER_STATE_NAME
    return TrainerState(**json.loads(path.read_text(encoding="utf-8")))


def load_weights(module: nn.Module, checkpoint: Path) -> None:
    """Load the weights of a checkpoint into the training module.

    Raises:
        InputError: If the checkpoint's tensors are not those that this run trains.
    """
    state = load_file(checkpoint / WEIGHTS_FILE)
    expected = module.state_dict().keys() - frozen_names(module)
    if state.keys() != expected:
        differing = sorted(state.keys() ^ expected)
        raise InputError(
            f"{checkpoint / WEIGHTS_FILE}: holds other tensors than this run trains, such as "
            f"{differing[0]!r}. Resume with the settings it was started with."
        )
    places = module.state_dict()
    cut = {name: shard_like(value, places[name]) for name, value in state.items()}
    module.load_state_dict(cut, strict=False)

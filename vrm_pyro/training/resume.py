"""Resume a run: find an intact checkpoint, load it, and tell whether training was finished."""

import errno
import logging
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from vrm_pyro.backbone.sharding import shard_like
from vrm_pyro.data.artefacts import Count, Positive, Scalar, Schema, checked, read_json
from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import WEIGHTS_FILE
from vrm_pyro.models.weights import check_finite, read_tensors
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


class _Callback(Schema):
    args: dict[str, Scalar] = {}
    attributes: dict[str, Scalar] = {}


# The norm of a gradient may be NaN.
_Logged = Annotated[float, Field(allow_inf_nan=True)] | None
_Steps = Annotated[float, Field(ge=0)]


class _State(Schema):
    """transformers' record of training, as far as a resumed run reads it."""

    global_step: Count
    max_steps: Count
    epoch: float | None = None
    num_train_epochs: Count = 0
    train_batch_size: Positive | None = None
    best_global_step: Count | None = None
    best_metric: float | None = None
    best_model_checkpoint: str | None = None
    eval_steps: _Steps = 0.0
    logging_steps: _Steps = 0.0
    save_steps: _Steps = 0.0
    num_input_tokens_seen: Count = 0
    total_flos: float = 0.0
    log_history: list[dict[str, _Logged]] = []
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True
    is_hyper_param_search: bool = False
    stateful_callbacks: dict[str, _Callback | list[_Callback]] = {}


def read_state(checkpoint: Path) -> TrainerState:
    """Return transformers' record of training at a checkpoint.

    Raises:
        InputError: If a value is missing or does not fit, or belongs to another checkpoint.
    """
    path, remedy = checkpoint / TRAINER_STATE_NAME, "Resume from another checkpoint."
    content = read_json(path, remedy)
    found = checked(_State, content, str(path), remedy)
    unknown = set(content) - {item.name for item in fields(TrainerState)}
    if unknown:
        raise InputError(f"{path}: {min(unknown)!r} is unknown to this version. {remedy}")
    number = checkpoint.name.rpartition("-")[2]
    best = found.best_global_step or 0
    if number.isdigit() and int(number) != found.global_step:
        raise InputError(
            f"{path}: 'global_step' is {found.global_step}, but must be {number}, as the folder "
            f"is called. {remedy}"
        )
    if best > found.global_step:
        raise InputError(
            f"{path}: 'best_global_step' is {best}, but must be at most 'global_step', "
            f"{found.global_step}. {remedy}"
        )
    return TrainerState(**content)


def load_weights(module: nn.Module, checkpoint: Path) -> None:
    """Load the weights of a checkpoint into the training module.

    Raises:
        InputError: If the checkpoint's tensors are not those that this run trains.
    """
    path = checkpoint / WEIGHTS_FILE
    state = read_tensors(path)
    expected = module.state_dict().keys() - frozen_names(module)
    if state.keys() != expected:
        differing = sorted(state.keys() ^ expected)
        raise InputError(
            f"{path}: holds other tensors than this run trains, such as "
            f"{differing[0]!r}. Resume with the settings it was started with."
        )
    places = module.state_dict()
    for name, value in state.items():
        wanted = places[name]
        if value.shape != wanted.shape or value.is_floating_point() != wanted.is_floating_point():
            raise InputError(
                f"{path}: tensor {name!r} holds {value.dtype} of shape {tuple(value.shape)}, but "
                f"must hold {wanted.dtype} of shape {tuple(wanted.shape)}. Resume with the "
                "settings it was started with, or from another checkpoint."
            )
        check_finite(value, name, str(path))
    cut = {name: shard_like(value, places[name]) for name, value in state.items()}
    module.load_state_dict(cut, strict=False)

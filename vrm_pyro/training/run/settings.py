"""The settings of a run, and their checks."""

import math
import os
import sys
from dataclasses import dataclass
from typing import Any, Final, Literal

import yaml
from transformers.integrations import get_available_reporting_integrations

from vrm_pyro.backbone import Backbone
from vrm_pyro.errors import InputError
from vrm_pyro.features.reading import DataLike
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.data_config import DataConfig
from vrm_pyro.training.distributed.validation import VALIDATION_METRICS
from vrm_pyro.training.finetuning import TuningConfig


@dataclass
class RunSettings:
    """Settings of one run.

    Args:
        model: Settings of the model.
        data: Settings of the training and validation rows.
        arguments: Training arguments of transformers.
        tuning: Settings of training the backbone.
        values: All settings as plain values, as in ``config.yaml``.
        overwrite: Whether to replace a run in ``train.output_dir``.
        train_rows: Training rows in any form; they replace ``data.train``.
        validation_rows: Validation rows in any form; they replace ``data.validation``.
        backbone: A loaded backbone that replaces ``model.backbone``.
    """

    model: ModelConfig
    data: DataConfig
    arguments: TrainArguments
    tuning: TuningConfig
    values: dict[str, Any]
    overwrite: bool = False
    train_rows: DataLike | None = None
    validation_rows: DataLike | None = None
    backbone: Backbone | None = None

    @property
    def layer(self) -> int | Literal["auto"] | None:
        """Layer of the states; ``auto`` leaves no layer out of a backbone that is trained."""
        trained = self.tuning.method != "frozen"
        return None if trained and self.model.layer == "auto" else self.model.layer

    def yaml(self) -> str:
        """Return the text of ``config.yaml``: loadable with ``--config``."""
        return yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True)


def check_arguments(arguments: TrainArguments) -> None:
    """Raise InputError for training arguments that would otherwise fail only during training."""
    for name, zero in (
        ("per_device_train_batch_size", False),
        ("per_device_eval_batch_size", False),
        ("gradient_accumulation_steps", False),
        ("learning_rate", False),
        ("weight_decay", True),
        ("early_stopping_patience", True),
    ):
        value = getattr(arguments, name)
        if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
            allowed = "0 or more" if zero else "positive"
            raise InputError(f"train.{name} is {value}, but must be {allowed}.")
    _check_ranges(arguments)
    if arguments.max_steps <= 0 and not arguments.num_train_epochs > 0:
        raise InputError(
            f"train.num_train_epochs is {arguments.num_train_epochs}, so nothing would be "
            "trained; give a positive number, or set train.max_steps."
        )
    if arguments.torch_compile:
        raise InputError(
            "train.torch_compile is true, but the heads are a Pyro program, which does not "
            "compile. Set tuning.compile true: it compiles a backbone that is trained."
        )
    for name in ("fsdp", "deepspeed"):
        # accelerate's own configuration arrives in environment variables.
        launched = os.environ.get(f"ACCELERATE_USE_{name.upper()}", "false").lower() == "true"
        if getattr(arguments, name, None) or launched:
            where = "accelerate's configuration" if launched else f"train.{name}"
            raise InputError(
                f"{where} asks for {name}, but heads that are a Pyro program stay whole. Leave it "
                "out, and set tuning.shard true to shard the backbone under them "
                "(docs/howto/several_gpus.md)."
            )
    metric = str(arguments.metric_for_best_model).removeprefix("eval_")
    if metric not in VALIDATION_METRICS:
        raise InputError(
            f"train.metric_for_best_model is {metric!r}, but must be one of "
            f"{', '.join(VALIDATION_METRICS)}."
        )
    better, wanted = ("smaller", "false") if metric == "log_loss" else ("larger", "true")
    if str(bool(arguments.greater_is_better)).lower() != wanted:
        raise InputError(
            f"train.metric_for_best_model is {metric}, which is better when {better}: set "
            f"train.greater_is_better {wanted}."
        )
    installed = get_available_reporting_integrations()
    for name in arguments.report_to or ():
        if name not in installed:
            raise InputError(
                f"train.report_to names {name!r}, which is no logger that is installed here; "
                f"installed: {', '.join(installed) or 'none'}. Install it, or give none."
            )


_SEEDS: Final = (0, 2**32 - 1)
# Settings whose range torch or transformers would find out during training; null is allowed.
_RANGES: Final[dict[str, tuple[float, float]]] = {
    "seed": _SEEDS,
    "data_seed": _SEEDS,
    "learning_rate": (0, 1e6),
    "num_train_epochs": (-math.inf, 1e9),
    "max_steps": (-math.inf, 10**12),
    "gradient_accumulation_steps": (1, 10**6),
    "max_grad_norm": (0, sys.float_info.max),
    "warmup_steps": (0, 10**12),
    "weight_decay": (0, 1e6),
    "adam_beta1": (0, 1 - 1e-12),
    "adam_beta2": (0, 1 - 1e-12),
    "adam_epsilon": (sys.float_info.min, 1),
    "logging_steps": (sys.float_info.min, 10**12),
    "save_total_limit": (1, 10**9),
    "eval_delay": (0, 10**12),
    "dataloader_num_workers": (0, 1024),
    "dataloader_prefetch_factor": (1, 10**4),
    "label_smoothing_factor": (0, 0),  # labels are probabilities, smooth as they are
}


def _check_ranges(arguments: TrainArguments) -> None:
    for name, (low, high) in _RANGES.items():
        value = getattr(arguments, name)
        if value is not None and not low <= value <= high:  # NaN is in none
            least = f"at least {low:g}" if math.isfinite(low) else "finite"
            raise InputError(f"train.{name} is {value}, but must be {least}, at most {high:g}.")
    if arguments.dataloader_num_workers == 0:
        for name in ("dataloader_prefetch_factor", "dataloader_persistent_workers"):
            if getattr(arguments, name):
                raise InputError(
                    f"train.{name} is {getattr(arguments, name)}, but there are no workers; set "
                    "train.dataloader_num_workers, or leave it out."
                )
    for name, why in (
        ("neftune_noise_alpha", "the heads have no embedding to add noise to"),
        ("push_to_hub", "a run is no model of transformers; push what vrm-pyro export wrote"),
    ):
        if getattr(arguments, name, None):
            raise InputError(f"train.{name} is {getattr(arguments, name)}, but {why}.")
    if arguments.fp16 and arguments.device.type == "cpu":
        raise InputError("train.fp16 is true, but the CPU does not compute in it; leave it out.")

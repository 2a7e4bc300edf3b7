"""The settings of a run, which ``train`` and ``doctor`` share: model, data and train."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace
from transformers.integrations import get_available_reporting_integrations

from vrm_pyro.cli.inputs import find_own_classes
from vrm_pyro.cli.parsing import describe, instantiate, new_parser, parse
from vrm_pyro.config import DataConfig, ModelConfig, check_settings
from vrm_pyro.errors import InputError
from vrm_pyro.train import TrainArguments
from vrm_pyro.tuning import TuningConfig, check_tuning
from vrm_pyro.validation import VALIDATION_METRICS

DEFAULT_CONFIG = "default"


@dataclass
class RunSettings:
    """Settings of one run.

    Args:
        model: Settings of the model.
        data: What it is trained on.
        arguments: transformers' settings of the training.
        tuning: Whether the backbone is trained, too.
        values: All of them as plain values, as ``config.yaml`` holds them.
        given: The parsed command line, with the options of the verb itself.
    """

    model: ModelConfig
    data: DataConfig
    arguments: TrainArguments
    tuning: TuningConfig
    values: dict[str, Any]
    given: Namespace

    def yaml(self) -> str:
        """Return the text of ``config.yaml``: loadable with ``--config``."""
        return yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True)


def run_parser(
    verb: str,
    description: str,
    examples: Sequence[str] = (),
    more: str = "",
    program: str | None = None,
    data: type[DataConfig] = DataConfig,
) -> ArgumentParser:
    """Return a parser with the groups ``model``, ``data``, ``tuning`` and ``train``.

    Args:
        verb: Name of the verb.
        description: What it does.
        examples: Command lines that show its use.
        more: Further paragraphs, below the examples.
        program: What the user types, if other than ``vrm-pyro VERB``.
        data: Settings of the data.
    """
    parser = new_parser(verb, description, examples, more, program)
    parser.add_class_arguments(ModelConfig, "model")
    parser.add_class_arguments(data, "data")
    parser.add_class_arguments(TuningConfig, "tuning")
    # Made by hand below: transformers' messages do not say which settings they are about.
    parser.add_class_arguments(TrainArguments, "train", instantiate=False)
    describe(parser, "train", TrainArguments)
    return parser


def read_settings(parser: ArgumentParser, argv: Sequence[str]) -> RunSettings:
    """Return checked settings; without ``--config`` those of ``default.yaml``.

    Raises:
        InputError: For settings that are wrong whatever the rows.
    """
    find_own_classes()
    if not any(item == "--config" or item.startswith("--config=") for item in argv):
        argv = ["--config", DEFAULT_CONFIG, *argv]
    parsed = parse(parser, argv)
    text = yaml.safe_load(parser.dump(parsed, skip_unset=False))
    values = {key: text[key] for key in ("model", "data", "tuning", "train")}
    _refuse_null(values)
    made = instantiate(parser, parsed)
    check_settings(made.model)
    check_tuning(made.tuning)
    arguments = _arguments(values["train"])
    check_arguments(arguments)
    return RunSettings(made.model, made.data, arguments, made.tuning, values, parsed)


def check_arguments(arguments: TrainArguments) -> None:
    """Raise InputError for settings of the training that only show once it has begun."""
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
        # accelerate's own configuration asks by the environment.
        launched = os.environ.get(f"ACCELERATE_USE_{name.upper()}", "false").lower() == "true"
        if getattr(arguments, name, None) or launched:
            where = "accelerate's configuration" if launched else f"train.{name}"
            raise InputError(
                f"{where} asks for {name}, but heads that are a Pyro program stay whole. Leave it "
                "out, and set tuning.shard true to shard the backbone under them (docs/scale.md)."
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


def _refuse_null(values: dict[str, Any]) -> None:
    for group, optional in (
        ("model", ()),
        ("data", ("train", "validation", "test")),
        ("tuning", ()),
    ):
        for name, value in values[group].items():
            if value is None and name not in optional:
                raise InputError(
                    f"{group}.{name} is null. Give a value, or leave the line out for the default."
                )


def _arguments(values: dict[str, Any]) -> TrainArguments:
    try:
        arguments = TrainArguments(**values)
    except (TypeError, ValueError, ImportError) as error:
        message = " ".join(str(error).split()).replace("--", "train.")
        raise InputError(f"settings of train: {message}") from error
    # Absolute: transformers notes paths of checkpoints, which must outlive a change of folder.
    arguments.output_dir = str(Path(arguments.output_dir or "").resolve())
    return arguments

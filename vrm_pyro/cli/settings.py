"""The settings of a run, which ``train`` and ``doctor`` share: model, data and train."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.cli.parsing import describe, instantiate, new_parser, parse
from vrm_pyro.errors import InputError
from vrm_pyro.models.settings.config import ModelConfig, check_settings
from vrm_pyro.models.settings.own_classes import find_own_classes, short_class_names
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.data_config import DataConfig
from vrm_pyro.training.finetuning import TuningConfig, check_tuning
from vrm_pyro.training.run.settings import RunSettings, check_arguments

DEFAULT_CONFIG = "default"


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
    return read_with_options(parser, argv)[0]


def read_with_options(
    parser: ArgumentParser, argv: Sequence[str]
) -> tuple[RunSettings, Namespace]:
    """Return checked settings, and what was parsed with the options of the verb itself.

    Raises:
        InputError: For settings that are wrong whatever the rows.
    """
    find_own_classes()
    if not any(item == "--config" or item.startswith("--config=") for item in argv):
        argv = ["--config", DEFAULT_CONFIG, *argv]
    parsed = parse(parser, argv)
    text = yaml.safe_load(short_class_names(parser.dump(parsed, skip_unset=False)))
    values = {key: text[key] for key in ("model", "data", "tuning", "train")}
    _refuse_null(values)
    made = instantiate(parser, parsed)
    check_settings(made.model)
    check_tuning(made.tuning)
    arguments = _arguments(values["train"])
    check_arguments(arguments)
    overwrite = bool(parsed.get("overwrite", False))
    return RunSettings(made.model, made.data, arguments, made.tuning, values, overwrite), parsed


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

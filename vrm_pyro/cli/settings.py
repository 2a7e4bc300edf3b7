"""The settings of a run, which ``train`` and ``doctor`` share: model, data and train."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.cli.inputs import find_own_classes
from vrm_pyro.cli.parsing import describe, instantiate, new_parser, parse
from vrm_pyro.config import DataConfig, ModelConfig, check_settings
from vrm_pyro.errors import InputError
from vrm_pyro.train import TrainArguments

DEFAULT_CONFIG = "default"


@dataclass
class RunSettings:
    """Settings of one run.

    Args:
        model: Settings of the model.
        data: What it is trained on.
        arguments: transformers' settings of the training.
        values: All of them as plain values, as ``config.yaml`` holds them.
        given: The parsed command line, with the options of the verb itself.
    """

    model: ModelConfig
    data: DataConfig
    arguments: TrainArguments
    values: dict[str, Any]
    given: Namespace

    def yaml(self) -> str:
        """Return the text of ``config.yaml``: loadable with ``--config``."""
        return yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True)


def run_parser(
    verb: str, description: str, examples: Sequence[str] = (), more: str = ""
) -> ArgumentParser:
    """Return a parser with the groups ``model``, ``data`` and ``train``."""
    parser = new_parser(verb, description, examples, more)
    parser.add_class_arguments(ModelConfig, "model")
    parser.add_class_arguments(DataConfig, "data")
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
    made = instantiate(parser, parsed)
    check_settings(made.model)
    text = yaml.safe_load(parser.dump(parsed, skip_unset=False))
    values = {key: text[key] for key in ("model", "data", "train")}
    return RunSettings(made.model, made.data, _arguments(values["train"]), values, parsed)


def _arguments(values: dict[str, Any]) -> TrainArguments:
    try:
        arguments = TrainArguments(**values)
    except (TypeError, ValueError, ImportError) as error:
        message = " ".join(str(error).split()).replace("--", "train.")
        raise InputError(f"settings of train: {message}") from error
    # Absolute: transformers notes paths of checkpoints, which must outlive a change of folder.
    arguments.output_dir = str(Path(arguments.output_dir or "").resolve())
    return arguments

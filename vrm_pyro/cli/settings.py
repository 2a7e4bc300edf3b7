"""Settings of a training run on the command line, for ``train`` and ``doctor``."""

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from jsonargparse import SUPPRESS, ArgumentParser, Namespace

from vrm_pyro.cli.parsing import Help, new_parser, parse
from vrm_pyro.training.data_config import DataConfig

if TYPE_CHECKING:
    from vrm_pyro.training.run.settings import RunSettings


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
    from vrm_pyro.training.arguments import TrainArguments
    from vrm_pyro.training.run.read_settings import add_settings

    parser = new_parser(verb, description, examples, more, program)
    add_settings(parser, data)
    describe(parser, "train", TrainArguments)
    return parser


def add_help_all(parser: ArgumentParser) -> None:
    """Add the option that shows what ``--help`` leaves out."""
    parser.add_argument(
        "--help_all",
        action="help",
        help="Show all settings, including the rest of TrainingArguments.",
    )


def describe(parser: ArgumentParser, group: str, cls: type) -> None:
    """Add the help texts in the field metadata of a dataclass to the parser."""
    texts = {f"{group}.{item.name}": item.metadata.get("help") for item in fields(cls)}
    for action in parser._actions:  # argparse has no public access to them
        if texts.get(action.dest):
            # Shown as it is: transformers' own texts are escaped for argparse.
            action.help = re.sub("%+", "%", str(texts[action.dest]))


# Settings that --help of ``train`` and ``doctor`` shows; --help_all shows all.
SHOWN = {
    "help",
    "help_all",
    "config",
    "print_config",
    "overwrite",
    "max_responses",
    *(
        f"model.{name}"
        for name in (
            "backbone",
            "pooling",
            "layer",
            "max_length",
            "architecture",
            "mode",
            "objectives",
            "num_objectives",
            "latent_dim",
            "weight_prior",
            "guide",
            "likelihood",
            "supervision",
            "rating_power",
            "bayesian_head",
            "ensemble_size",
        )
    ),
    *(f"data.{name}" for name in ("train", "validation", "validation_fraction", "skip_invalid")),
    *(f"tuning.{name}" for name in ("method", "learning_rate", "rank", "shard")),
    *(
        f"train.{name}"
        for name in (
            "output_dir",
            "num_train_epochs",
            "per_device_train_batch_size",
            "learning_rate",
            "weight_decay",
            "lr_scheduler_type",
            "early_stopping_patience",
            "report_to",
        )
    ),
}


def short_help(parser: ArgumentParser) -> str:
    """Return the short help of ``train`` or ``doctor``: the settings that users change.

    Args:
        parser: From :func:`~vrm_pyro.cli.parsing.new_parser`, with the options of the verb; the
            groups of settings are added here, without loading transformers.
    """
    from vrm_pyro.models.settings.config import ModelConfig
    from vrm_pyro.training.common_arguments import CommonArguments
    from vrm_pyro.training.data_config import DataConfig
    from vrm_pyro.training.finetuning.config import TuningConfig

    parser.add_class_arguments(ModelConfig, "model")
    parser.add_class_arguments(DataConfig, "data")
    parser.add_class_arguments(TuningConfig, "tuning")
    parser.add_class_arguments(CommonArguments, "train")
    describe(parser, "train", CommonArguments)
    for action in parser._actions:
        if action.dest not in SHOWN or any(o.endswith(".help") for o in action.option_strings):
            action.help = SUPPRESS
    parser.formatter_class = _Wide
    return str(parser.format_help())


class _Wide(Help):
    """Help with 100 columns on any terminal, so that its length is fixed."""

    def __init__(self, prog: str, **more: Any) -> None:
        super().__init__(prog, **{**more, "width": 100, "max_help_position": 16})


def read_settings(parser: ArgumentParser, argv: Sequence[str]) -> "RunSettings":
    """Return checked settings; without ``--config``, those of ``default.yaml``.

    Raises:
        InputError: For settings that are wrong for any rows.
    """
    return read_with_options(parser, argv)[0]


def read_with_options(
    parser: ArgumentParser, argv: Sequence[str]
) -> "tuple[RunSettings, Namespace]":
    """Return checked settings, and the parsed options of the verb.

    Raises:
        InputError: For settings that are wrong for any rows.
    """
    from vrm_pyro.models.settings.own_classes import find_own_classes
    from vrm_pyro.training.run.read_settings import DEFAULT_CONFIG, settings_of

    find_own_classes()
    if not any(item == "--config" or item.startswith("--config=") for item in argv):
        argv = ["--config", DEFAULT_CONFIG, *argv]
    parsed = parse(parser, argv)
    return settings_of(parser, parsed), parsed

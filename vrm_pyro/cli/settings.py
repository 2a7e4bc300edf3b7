"""The settings of a run on the command line, which ``train`` and ``doctor`` share."""

from collections.abc import Sequence
from dataclasses import fields

from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.cli.parsing import new_parser, parse
from vrm_pyro.models.settings.own_classes import find_own_classes
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.data_config import DataConfig
from vrm_pyro.training.run.read_settings import DEFAULT_CONFIG, add_settings, settings_of
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
    parser = new_parser(verb, description, examples, more, program)
    add_settings(parser, data)
    describe(parser, "train", TrainArguments)
    return parser


def describe(parser: ArgumentParser, group: str, cls: type) -> None:
    """Show the help texts that a dataclass keeps in the metadata of its fields."""
    texts = {f"{group}.{item.name}": item.metadata.get("help") for item in fields(cls)}
    for action in parser._actions:  # argparse has no other door to them
        if texts.get(action.dest):
            action.help = str(texts[action.dest]).replace("%", "%%")


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
    return settings_of(parser, parsed), parsed

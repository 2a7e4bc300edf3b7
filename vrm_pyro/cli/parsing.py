"""Parse the options of a verb with jsonargparse, with shipped configs and readable messages."""

import itertools
import textwrap
from collections.abc import Sequence

from jsonargparse import (
    ArgumentError,
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
    set_parsing_settings,
)

from vrm_pyro.errors import InputError
from vrm_pyro.training.run.config_files import ConfigFile, config_path
from vrm_pyro.training.run.messages import UsageError, check_texts, options_of, readable

__all__ = ["Help", "UsageError", "configs_first", "new_parser", "parse"]


class Help(DefaultHelpFormatter):
    """jsonargparse's help formatter, which keeps the line breaks of examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = []
        for part in text.split("\n\n"):
            lines = part.splitlines()
            as_is = any(line.startswith("  ") for line in lines)
            filled.append(part if as_is else textwrap.fill(" ".join(part.split()), width))
        return "\n\n".join(filled)


def new_parser(
    verb: str,
    description: str,
    examples: Sequence[str] = (),
    more: str = "",
    program: str | None = None,
    settings_file: bool = True,
) -> ArgumentParser:
    """Return a parser for one verb, with ``--config`` and ``--print_config``.

    Args:
        verb: Name of the verb.
        description: What it does.
        examples: Command lines that show its use.
        more: Further paragraphs, below the examples.
        program: What the user types, if other than ``vrm-pyro VERB``.
        settings_file: Whether ``--config`` names a file with these settings; a verb may give the
            option another meaning.
    """
    program = program or f"vrm-pyro {verb}"
    # Refuse, not only warn about, the modules on jsonargparse's deny list (os, subprocess,
    # builtins, ...): a config from someone else must not run a program. Naming any entry does it.
    set_parsing_settings(import_path_denylist=["os"])
    shipped = ", or the name of a shipped one" if verb in ("train", "doctor") else ""
    shown = "\n".join(["Examples:", *(f"  {example}" for example in examples)])
    parser = ArgumentParser(
        prog=program,
        usage=f"{program} [--config FILE] [options]",
        description="\n\n".join(
            [description, *([shown] if examples else []), *filter(None, [more])]
        ),
        formatter_class=Help,
        exit_on_error=False,
        allow_abbrev=False,
    )
    if settings_file:
        parser.add_argument(
            "--config",
            action=ConfigFile,
            metavar="FILE",
            help=f"YAML file with these settings{shipped}; other options override it.",
        )
    return parser


def parse(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    """Return the settings of a command line.

    Raises:
        UsageError: For unknown options, and values of the wrong type.
    """
    try:
        found = parser.parse_args(underscored(configs_first(argv), options_of(parser)))
        check_texts(found.as_dict())
        return found
    except InputError:
        raise
    except RecursionError as error:
        raise UsageError("an option or setting is nested too deeply.") from error
    except (ArgumentError, TypeError, ValueError, KeyError) as error:
        message = readable(error, options_of(parser))
        files_read = config_files(argv)
        # An option is unknown as an option: an unknown setting stands in a file.
        if message.startswith("no setting") and files_read:
            message = f"{' or '.join(files_read)}: {message}"
        raise UsageError(message) from error


def configs_first(argv: Sequence[str]) -> list[str]:
    """Return a command line with its ``--config`` options moved to the front, in order.

    In jsonargparse the last value wins, so a config file would override options before it.
    """
    files, rest = [], []
    items = iter(argv)
    for item in items:
        if item == "--config":
            files += [item, *itertools.islice(items, 1)]
        elif item.startswith("--config="):
            files.append(item)
        else:
            rest.append(item)
    return [*files, *rest]


def underscored(argv: Sequence[str], options: Sequence[str]) -> list[str]:
    """Return a command line with options spelled with underscores, such as ``--skip_invalid``.

    >>> underscored(["--skip-invalid", "--out=a-b"], ["--skip_invalid", "--out"])
    ['--skip_invalid', '--out=a-b']

    Where a verb reads rows by ``--data``, ``--data.schema`` means ``--schema``, so that both have
    one spelling for all verbs.

    Args:
        argv: The command line.
        options: All options of the verb, written with underscores.
    """
    found = []
    for item in argv:
        name, equals, value = item.partition("=")
        meant = name[:2] + name[2:].replace("-", "_")
        short = meant.replace("--data.", "--", 1)
        meant = short if meant not in options and short in options else meant
        found.append(meant + equals + value if meant in options else item)
    return found


def config_files(argv: Sequence[str]) -> list[str]:
    """Return the paths of the files that ``--config`` names in a command line."""
    after = [value for option, value in itertools.pairwise(argv) if option == "--config"]
    joined = [i.partition("=")[2] for i in argv if i.startswith("--config=")]
    return [str(config_path(name)) for name in [*after, *joined]]

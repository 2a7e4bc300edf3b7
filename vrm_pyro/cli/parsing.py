"""Options of a verb: jsonargparse, with shipped configs by name and readable messages."""

import difflib
import itertools
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonargparse import (
    ActionConfigFile,
    ArgumentError,
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
    set_parsing_settings,
)

from vrm_pyro.errors import InputError

CONFIGS = Path(str(files("vrm_pyro"))) / "configs"


class UsageError(InputError):
    """An option or a setting that cannot be understood."""


class ConfigFile(ActionConfigFile):
    """``--config``: a file, or the name of a shipped one; messages say which file is wrong."""

    def __call__(
        self, parser: Any, cfg: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Read the file into the settings."""
        from vrm_pyro.models.settings.own_classes import short_class_names

        path = config_path(str(values))
        try:
            text = path.read_text(encoding="utf-8")
            moved = short_class_names(text)
            source = str(path) if moved == text else moved
            super().__call__(parser, cfg, source, option_string)
        except (ArgumentError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise UsageError(f"{path}: {readable(error, options_of(parser))}") from error


def config_path(name: str) -> Path:
    """Return the path of a config: a file as given, else a shipped one of this name.

    Raises:
        UsageError: If there is neither.
    """
    given = Path(name).expanduser()
    if given.is_file():
        return given
    shipped = sorted(path.name for path in CONFIGS.glob("*.yaml"))
    # "configs/paper.yaml" is how the documents name them; it works outside the repository too.
    if given.parent.name in ("", "configs") and len(given.parts) <= 2:
        for candidate in (given.name, f"{given.name}.yaml"):
            if candidate in shipped:
                return CONFIGS / candidate
    raise UsageError(
        f"--config {name}: no such file. Give a YAML file, or a shipped one: "
        f"{', '.join(n.removesuffix('.yaml') for n in shipped)}."
    )


class Help(DefaultHelpFormatter):
    """jsonargparse's help that leaves the lines of examples as they are."""

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
) -> ArgumentParser:
    """Return a parser for one verb, with ``--config`` and ``--print_config``.

    Args:
        verb: Name of the verb.
        description: What it does.
        examples: Command lines that show its use.
        more: Further paragraphs, below the examples.
        program: What the user types, if other than ``vrm-pyro VERB``.
    """
    program = program or f"vrm-pyro {verb}"
    # What jsonargparse's own list denies (os, subprocess, builtins, ...) is refused, not warned
    # about: a config that someone else wrote must not run a program. Naming any entry does it.
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
    parser.add_argument(
        "--config",
        action=ConfigFile,
        metavar="FILE",
        help=f"YAML file with these settings{shipped}; options after it override.",
    )
    return parser


def parse(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    """Return the settings of a command line.

    Raises:
        UsageError: For unknown options, and values of the wrong kind.
    """
    try:
        return parser.parse_args(underscored(configs_first(argv), options_of(parser)))
    except InputError:
        raise
    except (ArgumentError, TypeError, ValueError, KeyError) as error:
        message = readable(error, options_of(parser))
        files_read = _config_files(argv)
        # An option is unknown as an option: an unknown setting stands in a file.
        if message.startswith("no setting") and files_read:
            message = f"{' or '.join(files_read)}: {message}"
        raise UsageError(message) from error


def configs_first(argv: Sequence[str]) -> list[str]:
    """Return a command line with its ``--config`` options in front, in their order.

    jsonargparse takes what comes last: a file would undo the options that stand before it.
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
    """Return a command line with options in their one spelling: ``--skip-invalid`` is accepted.

    >>> underscored(["--skip-invalid", "--out=a-b"], ["--skip_invalid", "--out"])
    ['--skip_invalid', '--out=a-b']

    Args:
        argv: The command line.
        options: All options of the verb, written with underscores.
    """
    found = []
    for item in argv:
        name, equals, value = item.partition("=")
        meant = name[:2] + name[2:].replace("-", "_")
        found.append(meant + equals + value if meant in options else item)
    return found


def _config_files(argv: Sequence[str]) -> list[str]:
    after = [value for option, value in itertools.pairwise(argv) if option == "--config"]
    joined = [i.partition("=")[2] for i in argv if i.startswith("--config=")]
    return [str(config_path(name)) for name in [*after, *joined]]


def instantiate(parser: ArgumentParser, settings: Namespace) -> Namespace:
    """Return the settings with their classes as objects.

    Raises:
        UsageError: If a class refuses its settings.
    """
    try:
        return parser.instantiate(settings)
    except InputError:
        raise
    except (ArgumentError, TypeError, ValueError, ImportError) as error:
        raise UsageError(readable(error, options_of(parser))) from error


def describe(parser: ArgumentParser, group: str, cls: type) -> None:
    """Show the help texts that a dataclass keeps in the metadata of its fields."""
    texts = {f"{group}.{item.name}": item.metadata.get("help") for item in fields(cls)}
    for action in parser._actions:  # argparse has no other door to them
        if texts.get(action.dest):
            action.help = str(texts[action.dest]).replace("%", "%%")


def options_of(parser: ArgumentParser) -> list[str]:
    """Return all options as they are written, such as ``--model.mode``."""
    return [name for action in parser._actions for name in action.option_strings]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean '...'?`` for a near miss, else a full stop."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else "."


def readable(error: BaseException | str, options: Sequence[str] = ()) -> str:
    """Return jsonargparse's message in the words of the user: key, value, what is allowed."""
    message = " ".join(str(error).split())
    key_match = re.match(r'Parser key "([^"]+)": (.*)', message)
    key, rest = key_match.groups() if key_match else ("", message)
    for pattern, rewrite in _REWRITES:
        found = re.search(pattern, rest)
        if found:
            rest = rewrite(found, key, options)
            break
    return f"{key}: {rest}" if key else rest


Rewrite = Callable[[re.Match[str], str, Sequence[str]], str]
_KINDS: Mapping[str, str] = {
    "float": "a number such as 0.1 or 1.0e-3",
    "int": "a whole number",
    "bool": "true or false",
    "str": "a text",
}


def _kind(found: re.Match[str], key: str, options: Sequence[str]) -> str:
    return f"is {found[2]!r}, but must be {_KINDS.get(found[1], found[1])}."


def _choice(found: re.Match[str], key: str, options: Sequence[str]) -> str:
    return f"is {found[2]!r}, but must be one of {found[1].replace(chr(39), '')}."


def _class(found: re.Match[str], key: str, options: Sequence[str]) -> str:
    from vrm_pyro.models.settings.tables import TABLES

    table = TABLES.get(key.rpartition(".")[2])
    if table is None:
        return found[0]
    given = found[1].strip()
    return (
        f"no class {given!r} here{did_you_mean(given, table)} Choose one of "
        f"{', '.join(sorted(table))}, or give the dotted path of a class of your own."
    )


def _setting(found: re.Match[str], key: str, options: Sequence[str]) -> str:
    name = found[1].rpartition(".")[2]
    return (
        f"{name} has no setting {found[2]!r}; --{key}.help {name} lists those it has. "
        f"To use another class, name it first: --{key} CLASS."
    )


def _import(found: re.Match[str], key: str, options: Sequence[str]) -> str:
    return (
        f"cannot import {found[1]!r} ({found[2]}). Give the dotted path of a class that Python "
        "finds here, such as my_priors.MyPrior."
    )


def _no_option(found: re.Match[str], key: str, options: Sequence[str]) -> str:
    group, name = found[1], found[2]
    known = [option.removeprefix("--") for option in options]
    near = did_you_mean(f"{group}.{name}" if group else name, known)
    return f"no setting {name!r} in {group or 'the config file'}{near}"


def _unrecognized(found: re.Match[str], key: str, options: Sequence[str]) -> str:
    first = found[1].split()[0].partition("=")[0]
    if not first.startswith("-"):
        return (
            f"unexpected argument {first!r}. Every value follows an option; put a pattern of "
            'several files in quotes: "data/*.jsonl".'
        )
    return f"unknown option {first}{did_you_mean(first, options)} --help lists all."


def _required(found: re.Match[str], key: str, options: Sequence[str]) -> str:
    names = ", ".join(f"--{name.strip()}" for name in found[1].split(","))
    return f"required: {names}. --help shows every option."


def _no_mapping(found: re.Match[str], key: str, options: Sequence[str]) -> str:
    return "is empty, or no mapping of settings such as 'model:' with indented lines below it."


def _union(found: re.Match[str], key: str, options: Sequence[str]) -> str:
    kinds = [
        f"a list of {inner}s" if outer else _KINDS.get(inner, inner)
        for outer, inner in re.findall(r"(list\[)?(?:<class ')?(\w+)(?:'>)?\]?", found[2])
    ]
    return f"{found[1]} is {found[3]!r}, but must be {' or '.join(kinds)}."


_REWRITES: Sequence[tuple[str, Rewrite]] = (
    (
        r'Parser key "([^"]+)": Does not validate against any of the Union subtypes '
        r"Subtypes: \[(.*)\] Errors: .* Given value: (.*)",
        _union,
    ),
    (r"Problem with given class_path '([^']+)': Option '([^']+)' is not accepted", _setting),
    (r"Problem with given class_path '([^']+)': (No module named .*)", _import),
    (r"Importing '([^']+)' is not allowed", _class),
    (r"Expected a dot import path string: (.*)", _class),
    (r"Import path (\S+) does not correspond to a subclass of \S+", _class),
    (r"Expected a <class '(\w+)'>\. Got value: (.*)", _kind),
    (r"Expected a typing\.Literal\[(.*?)\]\. Got value: (.*)", _choice),
    (r"Group '([^']+)' does not accept option '([^']+)'", _no_option),
    (r"()(?:Key|Option) '([^']+)' is not (?:expected|accepted)", _no_option),
    (r"the following arguments are required: (.*)", _required),
    (r"[Uu]nrecognized arguments: (.*)", _unrecognized),
    (r"Unexpected config:", _no_mapping),
)

"""Translate jsonargparse's messages for users: key, value, allowed values."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentParser

from vrm_pyro.errors import InputError, did_you_mean


class UsageError(InputError):
    """An option or setting is unknown or has a value that cannot be parsed."""


def options_of(parser: ArgumentParser) -> list[str]:
    """Return all options as written on the command line, such as ``--model.mode``."""
    return [name for action in parser._actions for name in action.option_strings]


def readable(error: BaseException | str, options: Sequence[str] = ()) -> str:
    """Return jsonargparse's message translated for users: key, value, allowed values."""
    message = " ".join(str(error).split())
    key_match = re.match(r'Parser key "([^"]+)": (.*)', message)
    key, rest = key_match.groups() if key_match else ("", message)
    for pattern, rewrite in _REWRITES:
        found = re.search(pattern, rest)
        if found:
            rest = rewrite(found, key, options)
            break
    return f"{key}: {rest}" if key else rest


#: Options that are texts, of which any beginning is right.
_TEXTS = ("prompt", "response", "id")


def check_texts(values: Mapping[str, Any], above: str = "") -> None:
    """Raise UsageError for texts that can be no name of a file: NUL, or a home of nobody.

    >>> check_texts({"data": {"train": "~nobody-here/rows.jsonl"}})
    Traceback (most recent call last):
    vrm_pyro.training.run.messages.UsageError: data.train is '~nobody-here/rows.jsonl', but...
    """
    for name, value in values.items():
        key = f"{above}.{name}".lstrip(".")
        if isinstance(value, Mapping):
            check_texts(value, key)
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str) or key in _TEXTS:
                continue
            if "\0" in text:
                raise UsageError(f"{key} is {text!r}, but a name holds no NUL.")
            if text.startswith("~") and os.path.expanduser(text) == text:
                raise UsageError(f"{key} is {text!r}, but there is no such user here.")


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

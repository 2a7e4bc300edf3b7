"""Read ``config.yaml`` in the folder of a run: plain values, of which nothing is imported."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vrm_pyro.data.artefacts import Schema, checked, read_yaml
from vrm_pyro.errors import InputError
from vrm_pyro.models.settings.tables import TABLES

REMEDY = "Restore the file."


class _Data(Schema):
    train: str | list[str] | None = None
    validation: str | list[str] | None = None
    skip_invalid: bool = False


class _Settings(Schema):
    model: dict[str, Any] = {}
    data: _Data = _Data()
    tuning: dict[str, Any] = {}
    train: dict[str, Any] = {}


def read_run_file(path: Path, remedy: str = REMEDY) -> dict[str, Any]:
    """Return the settings that a run left in its folder, by group.

    Raises:
        InputError: If the file cannot be read, or a group holds something else.
    """
    content = read_yaml(path, remedy)
    checked(_Settings, content, str(path), remedy)
    return content


def refuse_imports(settings: dict[str, Any], path: Path, given: Sequence[str]) -> None:
    """Raise InputError if the settings of a run name a class that would be imported.

    A folder may come from elsewhere. A class of the user's own must be named by the user.

    Args:
        settings: Result of :func:`read_run_file`.
        path: The file, for the message.
        given: The command line; a dotted path that it holds may be imported.
    """
    named = {word for item in given for word in re.findall(r"[\w.]+", item)}
    for key, found in _classes(settings):
        if not is_own(found) and found not in named:
            raise InputError(
                f"{path}: {key} names {found!r}, which is not imported from the folder of a run. "
                f"If it is a class of yours, name it: --{key} {found}; or give these settings "
                "with --config."
            )


def is_own(path: str) -> bool:
    """Whether the path of a class names one of this package, which is there already.

    >>> is_own("DirichletPrior"), is_own("vrm_pyro.priors.DirichletPrior"), is_own("my.Prior")
    (True, True, False)
    """
    return re.fullmatch(r"(vrm_pyro\.(\w+\.)*)?\w+", path) is not None


def _classes(settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what could be taken for the path of a class, with the setting that it is in."""
    for group, values in settings.items():
        for name, value in values.items() if isinstance(values, dict) else ():
            key = f"{group}.{name}"
            yield from ((key, path) for path in _paths(value))
            if group == "model" and name in TABLES and isinstance(value, str):
                yield key, value


def _paths(value: Any) -> Iterable[str]:
    if isinstance(value, list):
        for item in value:
            yield from _paths(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == "class_path":
                yield str(item)
            yield from _paths(item)
    elif isinstance(value, str) and "class_path" in value:  # settings written as a text
        yield value

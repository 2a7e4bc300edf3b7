"""Refuse an output that would replace or delete an input."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from vrm_pyro.errors import InputError

#: What tells that a folder is a run, and the files in it that an output beside them may not be.
_RUN: Final = ("config.json", "config.yaml")
_RUN_FILES: Final = (
    *_RUN,
    "model.safetensors",
    "metrics.json",
    "log_history.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


def refuse_input_as_output(out: Any, inputs: Iterable[Any], option: str = "--out") -> None:
    """Raise InputError if an output contains or is an input, or is a file that belongs to one.

    >>> refuse_input_as_output("scores.jsonl", ["runs/first", ["rows.jsonl", "more/*.jsonl"]])

    Args:
        out: File or folder to write; None for none.
        inputs: What is read: paths, patterns of files, or lists of these. Other things, such as
            ids of the Hub and rows in memory, lie nowhere that an output could be.
        option: What messages call the output.

    Raises:
        InputError: If one would be lost.
    """
    if out is None:
        return
    target = Path(os.path.realpath(Path(out).expanduser()))
    for name in _names(inputs):
        for place in _places(name):
            how = _loss(target, place)
            if how is not None:
                raise InputError(
                    f"{option} {out}: {how} {name}, which is read; it would be lost. Choose "
                    "another place."
                )


def _names(inputs: Iterable[Any]) -> Iterable[str]:
    for item in inputs:
        if isinstance(item, str | os.PathLike):
            yield os.fspath(item)
        elif isinstance(item, list | tuple):
            yield from _names(item)
        elif hasattr(item, "data"):  # rows with the way to read them
            yield from _names([item.data])


def _places(name: str) -> list[Path]:
    path = Path(name).expanduser()
    try:
        found = [str(path)] if path.exists() else glob.glob(str(path), recursive=True)
        return [Path(os.path.realpath(item)) for item in found]
    except (OSError, ValueError):  # no name that a file can have
        return []


def _loss(target: Path, place: Path) -> str | None:
    """Return how writing ``target`` would lose ``place``, or None."""
    if target == place or (target.exists() and target.samefile(place)):
        return "is"
    if target in place.parents:
        return "contains"
    if place not in target.parents or not target.is_file():
        return None
    inner = target.relative_to(place)
    is_run = any((place / name).is_file() for name in _RUN)
    # Beside a run's own files, results of evaluate and others may lie, and be replaced.
    kept = is_run and len(inner.parts) == 1 and inner.name not in _RUN_FILES
    return None if kept else "is a file of"

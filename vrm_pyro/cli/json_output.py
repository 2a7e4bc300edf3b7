"""JSON that a verb writes to a file, or prints in place of its table."""

import json
import os
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.atomic import write_file


def json_text(content: Any, indent: int = 2) -> str:
    """Return content as JSON; numbers that are not finite are a fault of the caller."""
    return json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)


def write_json(path: str | os.PathLike[str], content: Any, indent: int = 2) -> None:
    """Write content as a JSON file, whole or not at all."""
    text = json_text(content, indent)  # before a file is begun
    with write_file(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def add_json_options(parser: ArgumentParser) -> None:
    """Add ``--json`` and ``--out`` of a verb that prints a table, see :func:`show`."""
    parser.add_argument("--json", action="store_true", help="Print JSON instead of the table.")
    parser.add_argument(
        "--out", type=str, metavar="FILE", help="JSON file to write; one there is replaced."
    )


def show(options: Namespace, content: Any, table: Callable[[], str]) -> None:
    """Print the table or JSON, and write the file, as ``--json`` and ``--out`` ask for.

    Args:
        options: What was parsed.
        content: What the JSON holds.
        table: Makes the table.
    """
    if options.out:
        write_json(options.out, content)
    print(json_text(content) if options.json else table())
    if options.out and not options.json:
        print(f"\nwritten: {options.out}")

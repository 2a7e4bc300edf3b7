"""JSON output of verbs: to a file, or printed instead of the table."""

from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.atomic import json_text, write_json


def add_json_options(parser: ArgumentParser) -> None:
    """Add ``--json`` and ``--out`` to a verb that prints a table, see :func:`show`."""
    parser.add_argument("--json", action="store_true", help="Print JSON instead of the table.")
    parser.add_argument(
        "--out", type=str, metavar="FILE", help="JSON file to write; an existing file is replaced."
    )


def show(options: Namespace, content: Any, table: Callable[[], str]) -> None:
    """Print the table or JSON, and write the file, according to ``--json`` and ``--out``.

    Args:
        options: Parsed options.
        content: Content of the JSON.
        table: Returns the table.
    """
    if options.out:
        write_json(options.out, content)
    print(json_text(content) if options.json else table())
    if options.out and not options.json:
        print(f"\nwritten: {options.out}")

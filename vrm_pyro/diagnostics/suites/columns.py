"""Read the columns of published benchmarks."""

from collections.abc import Mapping
from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.schemas.values import items
from vrm_pyro.diagnostics.suites.suite import Row


def text_of(row: Row, column: str) -> str:
    """Return a text that is not empty.

    Raises:
        RowProblem: If it is missing, empty or no text.
    """
    value = row.get(column)
    if value is None:
        raise RowProblem("missing column", f'"{column}" is missing.')
    if not isinstance(value, str):
        raise RowProblem("wrong type", f'"{column}" is {value!r:.40}, but must be a text.')
    if not value.strip():
        raise RowProblem("empty text", f'"{column}" is empty.')
    return value


def texts_of(row: Row, column: str) -> list[str]:
    """Return a list of texts that are not empty.

    Raises:
        RowProblem: If it is missing or empty, or holds something else.
    """
    if row.get(column) is None:
        raise RowProblem("missing column", f'"{column}" is missing.')
    found = items(row[column], column)
    if not found:
        raise RowProblem("wrong number", f'"{column}" is an empty list.')
    return [text_of({f"{column}[{n}]": text}, f"{column}[{n}]") for n, text in enumerate(found)]


def objects_of(row: Row, column: str) -> list[Mapping[str, Any]]:
    """Return a list of objects.

    Raises:
        RowProblem: If it is missing, or holds something else.
    """
    if row.get(column) is None:
        raise RowProblem("missing column", f'"{column}" is missing.')
    found = items(row[column], column)
    if not all(isinstance(item, Mapping) for item in found):
        raise RowProblem("wrong type", f'"{column}" must be a list of objects.')
    return found


def pairs_of(row: Row, column: str, size: int) -> list[tuple[int, int]]:
    """Return pairs of places below ``size``.

    Raises:
        RowProblem: If it is missing, or holds something else.
    """
    if row.get(column) is None:
        raise RowProblem("missing column", f'"{column}" is missing.')
    found = []
    for n, pair in enumerate(items(row[column], column)):
        places = [int(p) for p in pair if isinstance(p, int | float) and 0 <= p < size]
        if len(places) != 2 or len(pair) != 2:
            raise RowProblem(
                "wrong type",
                f'"{column}[{n}]" is {pair!r:.40}, but must be two places below {size}.',
            )
        found.append((places[0], places[1]))
    return found


def name_of(row: Row, column: str, place: str) -> str:
    """Return the id of a row; its location where it has none."""
    value = row.get(column)
    return place if value in (None, "") else str(value)

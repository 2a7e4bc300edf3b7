"""Check the values of single columns of a row."""

import json
import math
from collections.abc import Mapping
from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.values import kind_of, readable

LABEL_COLUMNS = ("id", "subset", "source")
EXPECTED = (
    'A comparison has "prompt", "chosen" and "rejected"; a single response has "prompt", '
    '"response" and "ratings"; a ranking has "prompt", "responses" and "ranks".'
)


def required(row: Mapping[str, Any], column: str) -> Any:
    """Return a column that may not be missing or null."""
    value = row.get(column)
    if value is None:
        raise RowProblem("missing column", f'"{column}" is missing or null. {EXPECTED}')
    return value


def ratings_of(row: Mapping[str, Any], column: str) -> dict[str, float]:
    """Return the ratings of a column by objective, empty where it is missing."""
    return rating_object(row.get(column), column)


def rating_object(value: object, column: str) -> dict[str, float]:
    """Return finite ratings by objective; ``value`` is an object, its JSON text, or None."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise RowProblem(
                "bad ratings",
                f'"{column}" is text that is not JSON; write {{"objective": number}}.',
            ) from None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise RowProblem(
            "bad ratings",
            f'"{column}" is {kind_of(value)}, but must be an object {{"objective": number}}.',
        )
    return {
        readable(str(name), column): _rating(rating, f"{column}.{name}")
        for name, rating in value.items()
        if rating is not None
    }


def _rating(value: object, where: str) -> float:
    # true and false count as 1 and 0: checklist items use them
    number = _finite(value) if isinstance(value, bool | int | float) else None
    if number is None:
        shown = value if isinstance(value, float) else kind_of(value)
        raise RowProblem(
            "bad ratings",
            f'"{where}" is {shown}, but must be a finite number, or null where missing.',
        )
    return number


def number_of(
    row: Mapping[str, Any], column: str, upper: float, wanted: str, absent: float = 1.0
) -> float:
    """Return a number in [0, ``upper``]; ``wanted`` describes the range in messages."""
    value = row.get(column)
    if value is None:
        return absent
    number = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = _finite(value)
    if number is None or not 0 <= number <= upper:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        shown = str(value) if is_number else kind_of(value)
        raise RowProblem(f"bad {column}", f'"{column}" is {shown:.40}, but must be {wanted}.')
    return number


def _finite(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the range of floats
        return None
    return number if math.isfinite(number) else None


def labels_of(row: Mapping[str, Any]) -> dict[str, str | None]:
    """Return ``id``, ``subset`` and ``source`` as text, None where absent or NaN."""
    values = {column: row.get(column) for column in LABEL_COLUMNS}
    # pandas writes a missing name as NaN, which is not equal to itself
    return {
        column: None if value is None or value != value else readable(str(value), column)
        for column, value in values.items()
    }

"""Read the values of published columns, as numbers, labels and messages."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.schemas.transcript import is_transcript, prompt_of_transcript

_ROLES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "model": "assistant",
    "chatbot": "assistant",
    "function_call": "assistant",
    "observation": "tool",
}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def field(row: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, None where it is absent.

    >>> field({"info": {"post": "Hi", "more": [1, 2]}}, "info.more.1")
    2
    """
    if path in row:  # some published names have dots
        return row[path]
    value: Any = row
    for name in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(name)
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def number(value: object, column: str) -> float | None:
    """Return a number, given as one or as text; None for null, an empty text and "N/A".

    >>> number("4", "Rating"), number("N/A", "Rating")
    (4.0, None)
    """
    if value is None or (isinstance(value, str) and value.strip().upper() in ("", "N/A", "NA")):
        return None
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise RowProblem(
            "bad ratings", f'"{column}" is {value!r:.40}, but must be a number, or null.'
        )
    return found


def needed_number(row: Mapping[str, Any], column: str) -> float:
    """Return a number that decides the label, and so may not be missing."""
    found = number(row.get(column), column)
    if found is None:
        raise RowProblem("no label", f'"{column}" is missing, but decides which response wins.')
    return found


def truth(value: object, column: str) -> bool | None:
    """Return a yes or no, given as true, 1 or their text; None for null.

    >>> truth("True", "label"), truth(0, "label")
    (True, False)
    """
    if value is None or value == "":
        return None
    found = _TRUTH.get(str(int(value)) if isinstance(value, float) else str(value).lower())
    if found is None:
        raise RowProblem("no label", f'"{column}" is {value!r:.40}, but must be true or false.')
    return found


def choice(row: Mapping[str, Any], column: str, meanings: Mapping[str, float]) -> float:
    """Return the probability that the first response is preferred, from a label in words."""
    value = row.get(column)
    key = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    found = meanings.get(key.strip().lower())
    if found is None:
        raise RowProblem(
            "no label", f'"{column}" is {value!r:.40}, but must be one of {", ".join(meanings)}.'
        )
    return found


def items(value: object, column: str) -> list[Any]:
    """Return a list, given as one or as its JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise RowProblem(
                "wrong type",
                f'"{column}" is text that is not JSON (a list as Python or pandas prints it?). '
                "Write it as a JSON list.",
            ) from None
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise RowProblem("wrong type", f'"{column}" is {value!r:.40}, but must be a list.')
    return list(value)


def objects(value: object, column: str, key: str) -> list[Mapping[str, Any]]:
    """Return a list of objects that all have ``key``."""
    found = items(value, column)
    for n, item in enumerate(found):
        if not isinstance(item, Mapping) or key not in item:
            raise RowProblem("wrong type", f'"{column}[{n}]" has no "{key}".')
    return found


def turns(value: object, column: str) -> list[Any]:
    """Return messages with ``role`` and ``content``; one alone, or with ``from`` and ``value``.

    >>> turns([{"from": "human", "value": "Hi"}], "conversations")
    [{'role': 'user', 'content': 'Hi'}]
    """
    if isinstance(value, Mapping):
        value = [value]
    return [_message(turn) for turn in items(value, column)]


def _message(turn: Any) -> Any:
    if not isinstance(turn, Mapping):
        return turn  # reported with its place when the row is checked
    if "from" in turn and "role" not in turn:
        turn = {"role": turn["from"], "content": turn.get("value")}
    role = turn.get("role")
    return {**turn, "role": _ROLES.get(role, role)} if isinstance(role, str) else dict(turn)


def prompt_text(value: Any) -> Any:
    """Return a prompt as it is; a transcript as its turns."""
    if isinstance(value, str) and is_transcript(value):
        return prompt_of_transcript(value)
    return value


def joined(*parts: object) -> str:
    r"""Return the texts that are not empty, one below the other.

    >>> joined("Translate.", "", "Guten Tag.")
    'Translate.\nGuten Tag.'
    """
    return "\n".join(part for part in parts if isinstance(part, str) and part.strip())

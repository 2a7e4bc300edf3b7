"""Values as rows and callers bring them: texts that can be read, JSON, and nulls of tables."""

import json
from collections.abc import Mapping
from typing import Any

from vrm_pyro.data.problem import RowProblem


def readable(text: str, where: str) -> str:
    """Return ``text`` if tokenizers and files can hold it.

    Raises:
        RowProblem: If it holds half of a surrogate pair, or NUL.
    """
    broken = "\0" in text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RowProblem(
            "broken text",
            f'"{where}" holds half of a surrogate pair (a cut emoji, for instance), which no '
            "tokenizer can read. Remove that character.",
        ) from None
    if broken:
        raise RowProblem(
            "broken text",
            f'"{where}" holds the character NUL, which tokenizers and files cut or lose. Remove '
            "it.",
        )
    return text


def kind_of(value: object) -> str:
    """Return the name of a value's JSON type for messages."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    if value is None:
        return "null"
    if type(value) in names:
        return names[type(value)]
    return "a number" if isinstance(value, int | float) else f"a {type(value).__name__}"


def from_json(text: str) -> Any:
    """Return the value of a JSON text, or the text itself if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def without_null(value: Any) -> Any:
    """Return lists and objects without the nulls that tables fill in, inside them too."""
    if isinstance(value, Mapping):
        return {k: without_null(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple) or type(value).__name__ == "ndarray":
        return [without_null(v) for v in value]
    return value


def plain(value: Any, where: str) -> Any:
    """Return a JSON value as plain objects and lists whose texts are all :func:`readable`.

    Raises:
        RowProblem: If a text is not, or a value is not one of JSON.
    """
    if isinstance(value, str):
        return readable(str(value), where)
    if isinstance(value, Mapping):
        return {readable(str(k), where): plain(v, where) for k, v in value.items()}
    if isinstance(value, list | tuple) or type(value).__name__ == "ndarray":
        return [plain(v, where) for v in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    raise RowProblem(
        "wrong type", f'"{where}" holds {kind_of(value)}; give plain objects, lists and texts.'
    )

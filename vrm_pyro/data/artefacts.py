"""Read JSON and YAML artefacts, and check them against a typed schema."""

import os
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json

from vrm_pyro.errors import InputError

#: Most characters of a YAML file.
MOST_CHARACTERS: Final = 200_000
#: Most values in a YAML file once its aliases are written out, and how deep they may lie.
MOST_VALUES: Final = 100_000
DEEPEST: Final = 50

_STRICT: Final = ConfigDict(
    strict=True, extra="ignore", allow_inf_nan=False, arbitrary_types_allowed=True
)


class Schema(BaseModel):
    """Base of the schemas of artefacts: values are never converted, numbers are finite.

    A key that a schema does not know is ignored: a later version may write it.
    """

    model_config = _STRICT


Count = Annotated[int, Field(ge=0)]
"""A number of things."""

Positive = Annotated[int, Field(ge=1)]
"""A number of things, of which there is one at least."""

Scalar = str | bool | int | float | None
"""A value of JSON that holds no others."""


def _distinct(names: list[str]) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"a list without repeats; {name!r} is in it twice")
    return names


Names = Annotated[list[str], AfterValidator(_distinct)]
"""A list of names without repeats."""

# How messages call what pydantic expects, by the type of its error.
_WORDS: Final[Mapping[str, str]] = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "mapping_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "none_required": "null",
    "recursion_loop": "something that does not hold itself",
}


def read_json(path: str | os.PathLike[str], remedy: str) -> Any:
    """Return the content of a JSON file.

    Args:
        path: The file.
        remedy: Ends the message: what to do.

    Raises:
        InputError: If it cannot be read, is no JSON, or is nested too deeply.
    """
    try:
        return from_json(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else f"not valid JSON: {error}"
        raise InputError(f"{os.fspath(path)}: cannot be read ({why}). {remedy}") from error


def checked(kind: Any, content: Any, where: str, remedy: str) -> Any:
    """Return content as an instance of a schema, or of another type.

    >>> class Size(Schema):
    ...     width: Positive
    >>> checked(Size, {"width": 3}, "size.json", "Restore it.")
    Size(width=3)
    >>> checked(Size, {"width": -3}, "size.json", "Restore it.")
    Traceback (most recent call last):
    vrm_pyro.errors.InputError: size.json: 'width' is -3, but must be at least 1. Restore it.

    Args:
        kind: A :class:`Schema`, or any type that pydantic knows.
        content: JSON values.
        where: Begins the message: the file.
        remedy: Ends the message: what to do.

    Raises:
        InputError: If it does not fit; names the field, its value and what is allowed.
    """
    try:
        return _adapter(kind).validate_python(content)
    except ValidationError as error:
        raise InputError(f"{where}: {_first(error)} {remedy}") from error


def read_json_lines(path: str | os.PathLike[str], kind: Any, count: int, remedy: str) -> list[Any]:
    """Return the lines of a JSONL file, each checked against a schema.

    Args:
        path: The file.
        kind: A :class:`Schema` or type of each line.
        count: Number of lines that there must be.
        remedy: Ends the message: what to do.

    Raises:
        InputError: If a line does not fit, or their number differs.
    """
    found, adapter, name = [], _adapter(kind), os.fspath(path)
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                content = from_json(line)
                adapter.validate_python(content)
            except ValidationError as error:
                raise InputError(f"{name}:{number}: {_first(error)} {remedy}") from error
            except ValueError as error:
                raise InputError(f"{name}:{number}: not valid JSON ({error}). {remedy}") from error
            found.append(content)
    if len(found) != count:
        raise InputError(f"{name}: has {len(found)} lines, but must have {count}. {remedy}")
    return found


@lru_cache(maxsize=512)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    own = isinstance(kind, type) and issubclass(kind, BaseModel)
    return TypeAdapter(kind) if own else TypeAdapter(kind, config=_STRICT)


def _first(error: ValidationError) -> str:
    """Return what is wrong: of the fields that do not fit the first; of a union all kinds."""
    found = error.errors(include_url=False)
    place = _place(found[0])
    same = [item for item in found if _place(item)[: len(place)] == place]
    value = found[0]["input"]
    name = ".".join(map(str, place))
    if found[0]["type"] == "missing":
        return f"{name!r} is missing."
    if found[0]["type"] == "extra_forbidden":
        return f"{name!r} is unknown."
    allowed = " or ".join(dict.fromkeys(_allowed(item) for item in same))
    subject = repr(name) if name else "the content"
    return f"{subject} is {short(value)}, but must be {allowed}."


def _place(item: ErrorDetails) -> tuple[str | int, ...]:
    """Return the keys to a value; pydantic adds the kinds of a union to them."""
    kinds = ("str", "bool", "int", "float", "none", "constrained-int", "constrained-float")
    keys = item["loc"]
    while keys and (keys[-1] in kinds or "[" in str(keys[-1])):
        keys = keys[:-1]
    return keys


def _allowed(item: ErrorDetails) -> str:
    context = item.get("ctx", {})
    kind = item["type"]
    if kind in _WORDS:
        return _WORDS[kind]
    if kind == "literal_error":
        return f"one of {str(context['expected']).replace(chr(39), '')}"
    if kind == "value_error":
        return str(context["error"]).rstrip(".")
    for name, words in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
        if name in context:
            return f"{words} {context[name]}"
    return item["msg"][:1].lower() + item["msg"][1:]


def short(value: Any, length: int = 60) -> str:
    """Return a value as text for a message, cut to a length."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."


def read_yaml(path: str | os.PathLike[str], remedy: str) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        InputError: If it cannot be read, is no YAML or no mapping, or grows without measure.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{os.fspath(path)}: cannot be read ({why}). {remedy}") from error
    return parse_yaml(text, os.fspath(path), remedy)


def parse_yaml(text: str, where: str, remedy: str) -> dict[str, Any]:
    """Return the mapping in YAML text; nothing of it is run.

    >>> parse_yaml("a: 1", "a.yaml", "")
    {'a': 1}

    Raises:
        InputError: If it is no YAML or no mapping, or grows without measure.
    """
    import yaml  # slow: not for help

    if len(text) > MOST_CHARACTERS:  # its parser takes a second for these
        raise InputError(f"{where}: is longer than {MOST_CHARACTERS:,} characters. {remedy}")
    steps = ((letter in "[{") - (letter in "]}") for letter in text)
    if max(accumulate(steps), default=0) > 10 * DEEPEST:  # its time grows with the square
        raise InputError(f"{where}: is nested too deeply. {remedy}")
    try:
        content = load_yaml(text)
    except RecursionError as error:
        raise InputError(f"{where}: is nested too deeply. {remedy}") from error
    except (ValueError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"{where}: is no YAML ({why}). {remedy}") from error
    check_size(content, where, remedy)
    if not isinstance(content, dict):
        raise InputError(
            f"{where}: is empty, or no mapping of settings such as 'model:' with indented lines "
            f"below it. {remedy}"
        )
    return content


def load_yaml(text: str) -> Any:
    """Return what YAML text holds, by libyaml where it is there: ten times as fast.

    >>> load_yaml("a: [1, b]")
    {'a': [1, 'b']}

    Raises:
        yaml.YAMLError: If it is no YAML, or names a Python object.
    """
    import yaml  # slow: not for help

    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def check_size(content: Any, where: str, remedy: str = "") -> None:
    """Raise InputError for content that is too deep or too large, aliases written out.

    >>> held = []
    >>> held.append(held)
    >>> check_size(held, "a.yaml", "Mend it.")
    Traceback (most recent call last):
    vrm_pyro.errors.InputError: a.yaml: is nested deeper than 50 levels. Mend it.
    """
    count, level = 0, [content]
    for _ in range(DEEPEST):
        count += len(level)
        if count > MOST_VALUES:
            raise InputError(f"{where}: holds more than {MOST_VALUES:,} values. {remedy}")
        # Wide before deep: an alias within itself is found by the depth, one of many by the count.
        level = [
            inner
            for held in level
            if isinstance(held, dict | list | tuple)
            for inner in (held.values() if isinstance(held, dict) else held)
        ]
        if not level:
            return
    raise InputError(f"{where}: is nested deeper than {DEEPEST} levels. {remedy}")

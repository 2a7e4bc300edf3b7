"""Metadata of a feature store: a JSON file with its content and origin."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, create_model

from vrm_pyro.data.artefacts import Count, Names, Positive, Scalar, Schema, checked, read_json
from vrm_pyro.data.rows import RowReport
from vrm_pyro.data.source import OPTIONAL_COLUMNS
from vrm_pyro.errors import InputError

FORMAT = "vrm-pyro feature store"
VERSION = 1
FILE = "store.json"

KEY_PARTS = {
    "rows": "rows",
    "template": "chat template",
    "tokenizer": "tokenizer",
    "weights": "backbone weights",
    "pooling": "pooling",
    "max_length": "max length",
}
"""Everything that determines the states: key in the file, and name in messages."""

OPTIONAL_KEY_PARTS = {
    "layer": "layer",
    "file": "GGUF file of the backbone",
    "date": "date in the chat template",
    "reasoning": "reading of reasoning",
}
"""The same for what some backbones have; absent otherwise."""

WRITING_PARTS = {
    "dtype": "type of the stored numbers",
    "shard_rows": "rows in a shard",
    "token_budget": "tokens in a batch",
    "precision": "precision of the backbone",
}
"""Settings that must be equal when a run is resumed, so that the numbers are the same."""

OPTIONAL = "optional"
"""Key that lists a store's optional arrays of pairs; absent if it has none."""


class _Key(Schema):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalar]

    rows: str
    template: str
    tokenizer: str
    weights: str
    pooling: str
    max_length: Positive
    layer: Positive | None = None
    file: str | None = None


class _Writing(Schema):
    dtype: Literal["float32", "float16"]
    shard_rows: Positive
    token_budget: Positive
    precision: str


class _Backbone(Schema):
    name: str
    source: str = ""
    is_decoder: bool = False
    own_class: str | None = Field(None, alias="class")


class _Closed(Schema):
    model_config = ConfigDict(extra="forbid")


_COUNTS: Final[Mapping[Any, Any]] = {
    int: Count,
    Mapping[str, int]: dict[str, Count],
    tuple[str, ...]: Names,
}
# Every count of a RowReport, with the type that it has in JSON.
_counts: dict[str, Any] = {
    item.name: (_COUNTS[get_type_hints(RowReport)[item.name]], None) for item in fields(RowReport)
}
_Report: Any = create_model("_Report", __base__=_Closed, **_counts)


def _columns(names: list[str]) -> list[str]:
    if not set(names) <= set(OPTIONAL_COLUMNS):
        raise ValueError(f"a list of {' and '.join(OPTIONAL_COLUMNS)}")
    return names


class Meta(Schema):
    """Schema of the file."""

    complete: bool
    key: _Key
    writing: _Writing
    backbone: _Backbone
    hidden_size: Positive
    num_prompts: Positive
    num_responses: Positive
    num_pairs: Count
    objectives: Names
    report: _Report
    sizes: dict[str, Count]
    optional: Annotated[list[str], AfterValidator(_columns)] = []


def read_meta(folder: Path) -> dict[str, Any]:
    """Read and check the description of a store.

    Raises:
        InputError: If there is none, or it is not one of this version.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(
            f"{folder}: no feature store (it has no {FILE}). Make one with "
            "vrm-pyro features --data ROWS --out DIR."
        )
    remedy = "Restore the file, or write the store again."
    meta = read_json(path, remedy)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise InputError(
            f"{path}: does not describe a {FORMAT} by its 'format'. Point to a folder that "
            "vrm-pyro features wrote."
        )
    if meta.get("version") != VERSION or isinstance(meta["version"], bool):
        raise InputError(
            f"{path}: the store has format version {meta.get('version')}, this program reads "
            f"{VERSION}. Write the store again with this version."
        )
    checked(Meta, meta, str(path), remedy)
    return meta


def compare(
    where: str, stored: Mapping[str, Any], given: Mapping[str, Any], names: Mapping[str, str]
) -> None:
    """Raise unless a store's metadata agrees with what was given.

    Args:
        where: The store, for the message.
        stored: Metadata of the store.
        given: Values to compare with; absent keys are not compared.
        names: The keys to compare, and their names in the message.

    Raises:
        InputError: If any key differs; names each one with both values.
    """
    # A whole key lacks what a backbone does not have.
    whole = set(KEY_PARTS) - {"rows"} <= set(given)
    known = [p for p in names if p in given or (whole and p in OPTIONAL_KEY_PARTS)]
    differing = [p for p in known if differ(p, stored.get(p), given.get(p))]
    if not differing:
        return
    lines = [
        f"{names[p]} ({_short(stored.get(p))} there, {_short(given.get(p))} here)"
        for p in differing
    ]
    raise InputError(
        f"{where}: the store was written with different {' and '.join(lines)}. Use the settings "
        "and rows it was made from, or write a new store into another folder (--overwrite "
        "replaces this one)."
    )


def differ(part: str, one: Any, other: Any) -> bool:
    """Whether two backbones differ in a part of their key.

    Without a GGUF file on one side, the weights alone decide; versions before kept no date.

    >>> differ("file", "9a1b", "77c0"), differ("file", "9a1b", None), differ("pooling", "last", 2)
    (True, False, True)
    """
    return one != other and not (part in ("file", "date") and None in (one, other))


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text

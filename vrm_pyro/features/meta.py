"""Metadata of a feature store: a JSON file with its content and origin."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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

_FIELDS = {
    "complete": bool,
    "key": dict,
    "writing": dict,
    "backbone": dict,
    "hidden_size": int,
    "num_prompts": int,
    "num_responses": int,
    "num_pairs": int,
    "objectives": list,
    "report": dict,
    "sizes": dict,
}


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
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also what is no UTF-8
        raise InputError(
            f"{path}: is not JSON ({error}). Restore the file, or write the store again."
        ) from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise InputError(
            f"{path}: does not describe a {FORMAT}. Point to a folder that "
            "vrm-pyro features wrote."
        )
    if meta.get("version") != VERSION:
        raise InputError(
            f"{path}: the store has format version {meta.get('version')}, this program reads "
            f"{VERSION}. Write the store again with this version."
        )
    wrong = sorted(k for k, kind in _FIELDS.items() if not isinstance(meta.get(k), kind))
    wrong += sorted(k for k in KEY_PARTS if k not in meta.get("key", {}))
    wrong += sorted(k for k in WRITING_PARTS if k not in meta.get("writing", {}))
    if not set(meta.get(OPTIONAL, ())) <= set(OPTIONAL_COLUMNS):
        wrong.append(OPTIONAL)
    if wrong:
        raise InputError(
            f"{path}: lacks {', '.join(wrong)}, or has it in another form. Restore the file, or "
            "write the store again."
        )
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

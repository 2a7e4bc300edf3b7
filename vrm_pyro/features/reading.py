"""Open rows, a feature store or a backbone by the name a user gives."""

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from vrm_pyro.backbone import Backbone, TransformerBackbone, load_backbone
from vrm_pyro.backbone.reading import ReadingSettings
from vrm_pyro.data.rows import PreferenceTable, ReadAs, TableSpec, load_table
from vrm_pyro.errors import InputError
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.features.meta import FILE as STORE_FILE
from vrm_pyro.features.meta import differ, read_meta
from vrm_pyro.features.states import Features
from vrm_pyro.features.store import FeatureStore, open_store

log = logging.getLogger(__name__)

DataLike: TypeAlias = TableSpec | PreferenceTable | FeatureStore | Features | Inputs
"""Rows in any form: a path, a pattern, a Hub id, row dicts, a ``datasets.Dataset``, a
:class:`PreferenceTable`, or a feature store, opened or by its folder."""

Rows: TypeAlias = PreferenceTable | FeatureStore | Inputs
"""Result of :func:`read_data`: texts only, or texts with their states."""


# Identity of a backbone: key in a checkpoint, key in a feature store.
FACTS = {
    "template_hash": "template",
    "tokenizer_hash": "tokenizer",
    "weights_hash": "weights",
    "pooling": "pooling",
    "max_length": "max_length",
}

OPTIONAL_FACTS = {
    "layer": "layer",
    "file_sha256": "file",
    "date": "date",
    "reasoning": "reasoning",
}
"""The same for what some backbones have; absent otherwise."""


def read_data(
    data: DataLike, *, skip_invalid: bool = False, split: str = "train", every_row: bool = False
) -> Rows:
    """Read rows in any form, without running a backbone.

    Every function that takes rows calls this, or
    :func:`vrm_pyro.prediction.opening.read_inputs`, which also computes missing states.

    >>> rows = read_data([{"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}])
    >>> rows.num_pairs
    1

    Args:
        data: Rows in any form; in a :class:`~vrm_pyro.data.rows.ReadAs` with a schema or own
            columns, which do nothing for rows that were read before.
        skip_invalid: Leave out and count unusable rows instead of stopping at them.
        split: Split of a Hub id or of a data set with several.
        every_row: Also keep rows that can only be scored, see
            :func:`~vrm_pyro.data.rows.load_table`.

    Returns:
        A table if ``data`` holds texts only; the store, or the inputs, if it holds states.

    Raises:
        InputError: If a source or a store cannot be read, or a row is not usable.
    """
    read = data.data if isinstance(data, ReadAs) else data
    if isinstance(read, PreferenceTable | FeatureStore | Inputs):
        return read
    if isinstance(read, Features):
        return Inputs.of(read)
    if is_store(read):
        return read_store(read)
    return read_rows(data, skip_invalid, split, every_row)


def rows_of(rows: Rows) -> PreferenceTable:
    """Return the table of a result of :func:`read_data`."""
    if isinstance(rows, PreferenceTable):
        return rows
    return rows.table() if isinstance(rows, FeatureStore) else rows.table


def data_name(data: DataLike) -> str:
    """Return the name of the rows in messages.

    >>> data_name(["a.jsonl", "b.jsonl"])
    'a.jsonl, b.jsonl'
    >>> data_name([{"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}])
    'the rows'
    """
    if isinstance(data, ReadAs):
        return data_name(data.data)
    if isinstance(data, FeatureStore):
        return str(data.path)
    names: list[Any] = [data]
    if isinstance(data, Sequence) and not isinstance(data, str):
        names = list(data)
    if not names or not all(isinstance(name, str | os.PathLike) for name in names):
        return "the rows"
    return ", ".join(str(name) for name in names)


def is_store(data: object) -> bool:
    """Whether a path is a feature store, finished or not."""
    if isinstance(data, ReadAs):
        data = data.data
    if not isinstance(data, str | os.PathLike):
        return False
    return (Path(data).expanduser() / STORE_FILE).is_file()


def read_store(path: object) -> FeatureStore:
    """Open the feature store at a path."""
    store = open_store(Path(str(path)).expanduser())
    lost = store.meta["report"].get("margins_ignored", 0)
    if lost:
        warnings.warn(
            f'{store.path}: "margin" is ignored in {lost:,} rows: the store was written by a '
            "version that did not keep it. Write it again with vrm-pyro features.",
            UserWarning,
            stacklevel=2,
        )
    return store


def read_rows(
    spec: TableSpec, skip_invalid: bool, split: str = "train", every_row: bool = False
) -> PreferenceTable:
    """Read rows and log the counts of rows kept and dropped."""
    table = load_table(spec, skip_invalid=skip_invalid, split=split, every_row=every_row)
    log.info("%s: %s", data_name(spec), table.report.summary())
    return table


def backbone_name(name: str) -> str:
    """Return a backbone's name with a local path made absolute."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def read_backbone(
    name: str, reading: ReadingSettings | None = None, **settings: Any
) -> TransformerBackbone:
    """Load a backbone; a local path is stored as an absolute one.

    Args:
        name: What the user calls it.
        reading: How it reads conversations.
        **settings: See :func:`~vrm_pyro.load_backbone`.
    """
    device = settings.get("device", "auto")
    try:
        found = load_backbone(backbone_name(name), **settings)
        return found.with_settings(reading or found.settings)
    except RuntimeError as error:
        if device == "auto":
            raise
        raise InputError(f"--device {device}: {str(error).splitlines()[0]}") from error


def store_reading(folder: Path) -> ReadingSettings | None:
    """Return how the texts of a store, finished or not, were read; None without a store."""
    if not (folder / STORE_FILE).is_file():
        return None
    key = read_meta(folder)["key"]
    return ReadingSettings(key.get("date"), key.get("reasoning", "keep"))


def log_date(backbone: Backbone, where: str) -> None:
    """Say that the date of a chat template which writes today's is fixed."""
    if backbone.settings.date is not None:
        log.info(
            "the chat template of %s writes today's date; %s keeps %s",
            backbone.name,
            where,
            backbone.settings.date,
        )


def backbone_facts(store: FeatureStore) -> dict[str, Any]:
    """Return the facts about a store's backbone that a checkpoint records."""
    key, backbone = store.meta["key"], store.meta["backbone"]
    own = {"class": backbone["class"]} if "class" in backbone else {}
    optional = {k: key[part] for k, part in OPTIONAL_FACTS.items() if key.get(part) is not None}
    return {
        "name": backbone["name"],
        **own,
        **{k: key[part] for k, part in FACTS.items()},
        **optional,
    }


def differing_facts(facts: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """Return in which facts two backbones differ, as far as both are known.

    >>> differing_facts({"pooling": "last", "max_length": 256}, {"pooling": "mean"})
    ['pooling']
    """
    known = [key for key in FACTS if key in facts and key in others]
    if "weights_hash" in known:  # of a transformers model, so that what is absent is known too
        known += OPTIONAL_FACTS
    return [
        key
        for key in known
        if differ({**FACTS, **OPTIONAL_FACTS}[key], facts.get(key), others.get(key))
    ]

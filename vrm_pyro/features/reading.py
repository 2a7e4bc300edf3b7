"""Read what a user names: rows, a feature store or a backbone."""

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from vrm_pyro.backbone import TransformerBackbone, load_backbone
from vrm_pyro.data.rows import PreferenceTable, TableSpec, load_table
from vrm_pyro.errors import InputError
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.features.meta import FILE as STORE_FILE
from vrm_pyro.features.states import Features
from vrm_pyro.features.store import FeatureStore, open_store

log = logging.getLogger(__name__)

DataLike: TypeAlias = TableSpec | PreferenceTable | FeatureStore | Features | Inputs
"""Rows in any form: a path, a pattern, a Hub id, row dicts, a ``datasets.Dataset``, a
:class:`PreferenceTable`, or a feature store, opened or by its folder."""

Rows: TypeAlias = PreferenceTable | FeatureStore | Inputs
"""What :func:`read_data` returns: texts alone, or texts with their states."""


# What a model's backbone is known by: name in the checkpoint, name in the key of a store.
FACTS = {
    "template_hash": "template",
    "tokenizer_hash": "tokenizer",
    "weights_hash": "weights",
    "pooling": "pooling",
    "max_length": "max_length",
}


def read_data(data: DataLike, *, skip_invalid: bool = False, split: str = "train") -> Rows:
    """Read rows in whatever form they are given; no backbone runs.

    This is the one place that decides what a user's data are. A function of the library that
    takes rows calls it, or :func:`vrm_pyro.prediction.opening.read_inputs`, which also computes
    the states that are missing.

    >>> rows = read_data([{"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}])
    >>> rows.num_pairs
    1

    Args:
        data: Rows in any form.
        skip_invalid: Leave out and count unusable rows instead of stopping at them.
        split: Split of a Hub id or of a data set with several.

    Returns:
        A table where ``data`` are texts; the store, or the inputs, where states come with them.

    Raises:
        InputError: If a source or a store cannot be read, or a row is not usable.
    """
    if isinstance(data, PreferenceTable | FeatureStore | Inputs):
        return data
    if isinstance(data, Features):
        return Inputs.of(data)
    if is_store(data):
        return read_store(data)
    return read_rows(data, skip_invalid, split)


def rows_of(rows: Rows) -> PreferenceTable:
    """Return the table of what :func:`read_data` returned."""
    if isinstance(rows, PreferenceTable):
        return rows
    return rows.table() if isinstance(rows, FeatureStore) else rows.table


def data_name(data: DataLike) -> str:
    """Return what a message calls the rows.

    >>> data_name(["a.jsonl", "b.jsonl"])
    'a.jsonl, b.jsonl'
    >>> data_name([{"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}])
    'the rows'
    """
    if isinstance(data, FeatureStore):
        return str(data.path)
    names: list[Any] = [data]
    if isinstance(data, Sequence) and not isinstance(data, str):
        names = list(data)
    if not names or not all(isinstance(name, str | os.PathLike) for name in names):
        return "the rows"
    return ", ".join(str(name) for name in names)


def is_store(data: object) -> bool:
    """Whether a path names a feature store, finished or not."""
    if not isinstance(data, str | os.PathLike):
        return False
    return (Path(data).expanduser() / STORE_FILE).is_file()


def read_store(path: object) -> FeatureStore:
    """Open the store that a path names."""
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


def read_rows(spec: TableSpec, skip_invalid: bool, split: str = "train") -> PreferenceTable:
    """Read rows and log what became of them."""
    table = load_table(spec, skip_invalid=skip_invalid, split=split)
    log.info("%s: %s", data_name(spec), table.report.summary())
    return table


def backbone_name(name: str) -> str:
    """Return a name that means the same in another working folder."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


def read_backbone(name: str, **settings: Any) -> TransformerBackbone:
    """Load a backbone by a name that outlives the working folder."""
    device = settings.get("device", "auto")
    try:
        return load_backbone(backbone_name(name), **settings)
    except RuntimeError as error:
        if device == "auto":
            raise
        raise InputError(f"--device {device}: {str(error).splitlines()[0]}") from error


def backbone_facts(store: FeatureStore) -> dict[str, Any]:
    """Return what a checkpoint keeps of the backbone that made these states."""
    key, backbone = store.meta["key"], store.meta["backbone"]
    own = {"class": backbone["class"]} if "class" in backbone else {}
    return {"name": backbone["name"], **own, **{k: key[part] for k, part in FACTS.items()}}

"""Read what a user names: rows, a feature store or a backbone."""

import logging
import warnings
from pathlib import Path
from typing import Any

from vrm_pyro.backbone import Backbone, load_backbone
from vrm_pyro.data.rows import PreferenceTable, load_table
from vrm_pyro.data.rows.readers import Spec
from vrm_pyro.errors import InputError
from vrm_pyro.features.meta import FILE as STORE_FILE
from vrm_pyro.features.store import FeatureStore, open_store

log = logging.getLogger(__name__)


# What a model's backbone is known by: name in the checkpoint, name in the key of a store.
FACTS = {
    "template_hash": "template",
    "tokenizer_hash": "tokenizer",
    "weights_hash": "weights",
    "pooling": "pooling",
    "max_length": "max_length",
}


def is_store(spec: Spec) -> bool:
    """Whether a spec names a feature store, finished or not."""
    return isinstance(spec, str) and (Path(spec).expanduser() / STORE_FILE).is_file()


def read_store(spec: Spec) -> FeatureStore:
    """Open the store that a spec names."""
    store = open_store(Path(str(spec)).expanduser())
    lost = store.meta["report"].get("margins_ignored", 0)
    if lost:
        warnings.warn(
            f'{store.path}: "margin" is ignored in {lost:,} rows: the store was written by a '
            "version that did not keep it. Write it again with vrm-pyro features.",
            UserWarning,
            stacklevel=2,
        )
    return store


def read_rows(spec: Spec, skip_invalid: bool, split: str = "train") -> PreferenceTable:
    """Read rows and say what became of them."""
    table = load_table(spec, skip_invalid=skip_invalid, split=split)
    log.info("%s: %s", spec if isinstance(spec, str) else ", ".join(spec), table.report.summary())
    return table


def backbone_name(name: str) -> str:
    """Return a name that means the same in another working folder."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


def read_backbone(name: str, **settings: Any) -> Backbone:
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
    key = store.meta["key"]
    return {"name": store.meta["backbone"]["name"], **{k: key[part] for k, part in FACTS.items()}}

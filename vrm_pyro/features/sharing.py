"""Write one feature store with all processes of a run."""

from pathlib import Path

from vrm_pyro.atomic import write_directory
from vrm_pyro.backbone import Backbone
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.features.store import FeatureStore, open_store
from vrm_pyro.features.writing import write_shards, write_store
from vrm_pyro.processes import (
    Share,
    from_main,
    is_main,
    num_processes,
    process_index,
    wait_for_all,
)

TOKENIZER = "tokenizer"
"""Folder of a store with the tokenizer of its backbone, for training without the backbone."""


def write_together(
    table: PreferenceTable,
    backbone: Backbone,
    folder: Path,
    *,
    overwrite: bool = False,
    dtype: str = "float32",
    progress: bool = True,
    cache: bool = False,
) -> FeatureStore:
    """Write a store with all processes, each a part of its shards; return it opened in each.

    Args:
        table: The rows, the same in all processes.
        backbone: The backbone that reads the texts.
        folder: Folder to write, visible to all processes.
        overwrite: See :func:`~vrm_pyro.features.writing.write_store`; for a single process only.
        dtype: See :func:`~vrm_pyro.features.writing.write_store`.
        progress: Whether the main process shows a progress bar.
        cache: See :func:`~vrm_pyro.features.writing.write_store`; for a single process only.
    """
    if num_processes() == 1:
        return write_store(
            table,
            backbone,
            folder,
            overwrite=overwrite,
            dtype=dtype,
            progress=progress,
            cache=cache,
        )
    share = {"shard": process_index(), "num_shards": num_processes()}
    write_shards(table, backbone, folder, **share, progress=progress and is_main(), dtype=dtype)
    wait_for_all()
    from_main(lambda: write_store(table, backbone, folder, merge=True, dtype=dtype).path)
    return open_store(folder)


def write_features(
    table: PreferenceTable,
    backbone: Backbone,
    folder: Path,
    *,
    share: Share | None = None,
    merge: bool = False,
    overwrite: bool = False,
    dtype: str = "float32",
) -> FeatureStore | None:
    """Write a store with the tokenizer of its backbone: what ``vrm-pyro features`` does.

    Args:
        table: The rows.
        backbone: The backbone that reads the texts.
        folder: Folder to write.
        share: Which part of the work this process does; all of it when omitted.
        merge: Compute nothing; only merge the finished parts of all processes.
        overwrite: Replace a store of other content.
        dtype: How numbers are stored, ``float32`` or ``float16``.

    Returns:
        The store; None while other processes have not finished their parts.

    Raises:
        InputError: As :func:`~vrm_pyro.features.writing.write_store`.
    """
    share = share or Share()
    if not (share.alone or share.together or merge):
        write_shards(
            table, backbone, folder, shard=share.index, num_shards=share.count, dtype=dtype
        )
        return None
    if merge:
        store = write_store(table, backbone, folder, overwrite=overwrite, dtype=dtype, merge=True)
    else:
        store = write_together(table, backbone, folder, overwrite=overwrite, dtype=dtype)
    if share.speaks:
        with write_directory(store.path / TOKENIZER, overwrite=True) as partial:
            backbone.save_tokenizer(partial)
    return store

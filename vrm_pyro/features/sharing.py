"""A feature store that several processes write together, each some of its shards."""

import os
from pathlib import Path
from typing import Any

from vrm_pyro.backbone import Backbone
from vrm_pyro.errors import InputError
from vrm_pyro.features.meta import FILE, KEY_PARTS, compare, read_meta
from vrm_pyro.features.store import FeatureStore, open_store, store_problem
from vrm_pyro.features.writing import (
    SHARD_ROWS,
    begin_store,
    compute_shards,
    finish_store,
    missing_shards,
    plan_store,
    write_store,
)
from vrm_pyro.processes import is_main, on_main, rank, wait, world_size
from vrm_pyro.rows import PreferenceTable


def write_share(
    table: PreferenceTable,
    backbone: Backbone,
    out_dir: str | os.PathLike[str],
    num_shards: int,
    shard: int,
    *,
    progress: bool = True,
    shard_rows: int = SHARD_ROWS,
    dtype: str = "float32",
) -> int:
    """Compute one share of a store; :func:`merge_store` finishes it when all are done.

    Args:
        table: The rows, the same in all processes.
        backbone: What reads the texts.
        out_dir: The folder that all write.
        num_shards: Number of processes.
        shard: Which of them this is, from 0.
        progress: See :func:`~vrm_pyro.features.write_store`.
        shard_rows: See there.
        dtype: See there.

    Returns:
        The number of sequences that were yet to be computed.

    Raises:
        InputError: As :func:`~vrm_pyro.features.write_store` does.
    """
    folder = Path(out_dir)
    plan = plan_store(table, backbone, shard_rows, dtype)
    try:
        finished = begin_store(folder, plan, resume=True, overwrite=False)
    except InputError:
        # Another process may have taken the folder since this one looked: then look again.
        if not (folder / FILE).is_file():
            raise
        finished = begin_store(folder, plan, resume=True, overwrite=False)
    if finished:
        return 0
    return compute_shards(folder, plan, table, backbone, num_shards, shard, progress=progress)


def merge_store(table: PreferenceTable, out_dir: str | os.PathLike[str]) -> FeatureStore:
    """Finish a store whose shards are all there; its files are those of a single process.

    Args:
        table: The rows that it was made from.
        out_dir: Its folder.

    Raises:
        InputError: If shards are missing or damaged, or the rows are other ones.
    """
    folder = Path(out_dir)
    plan = read_meta(folder)
    rows = {"rows": table.content_hash()}
    compare(str(folder), plan["key"], rows, {"rows": KEY_PARTS["rows"]})
    if plan["complete"] and store_problem(folder, plan) is None:
        return open_store(folder)
    missing = [f"{kind} {index}" for kind, index, *_ in missing_shards(folder, plan)]
    if missing:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise InputError(
            f"{folder}: {len(missing)} shards are missing ({shown}); shard i is that of --shard i "
            "modulo --num_shards. Run what is unfinished again; it goes on where it was."
        )
    return finish_store(folder, table, plan)


def write_together(
    table: PreferenceTable, backbone: Backbone, out_dir: str | os.PathLike[str], **settings: Any
) -> FeatureStore:
    """Write a store by all processes that were started together; each gets it opened.

    Args:
        table: The rows.
        backbone: What reads the texts.
        out_dir: Folder to write, which all of them see.
        **settings: See :func:`~vrm_pyro.features.write_store`.
    """
    if world_size() == 1:
        return write_store(table, backbone, out_dir, **settings)
    folder = Path(out_dir)
    shard_rows = settings.get("shard_rows", SHARD_ROWS)
    plan = plan_store(table, backbone, shard_rows, settings.get("dtype", "float32"))
    overwrite = settings.get("overwrite", False)
    if not on_main(lambda: begin_store(folder, plan, True, overwrite)):
        place = world_size(), rank()
        compute_shards(folder, plan, table, backbone, *place, progress=is_main())
        wait()
        on_main(lambda: finish_store(folder, table, plan) and None)
    return open_store(folder)

"""A feature store that all processes of a run write together."""

from pathlib import Path

from vrm_pyro.backbone import Backbone
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.features.store import FeatureStore, open_store
from vrm_pyro.features.writing import write_shards, write_store
from vrm_pyro.processes import from_main, is_main, num_processes, process_index, wait_for_all


def write_together(
    table: PreferenceTable,
    backbone: Backbone,
    folder: Path,
    *,
    overwrite: bool = False,
    dtype: str = "float32",
) -> FeatureStore:
    """Write a store by all processes, each some of its shards; each gets it opened.

    Args:
        table: The rows, the same in all processes.
        backbone: What reads the texts.
        folder: Folder to write, which all of them see.
        overwrite: See :func:`~vrm_pyro.features.writing.write_store`; for a process that is alone.
        dtype: See there.
    """
    if num_processes() == 1:
        return write_store(table, backbone, folder, overwrite=overwrite, dtype=dtype)
    share = {"shard": process_index(), "num_shards": num_processes()}
    write_shards(table, backbone, folder, **share, progress=is_main(), dtype=dtype)
    wait_for_all()
    from_main(lambda: write_store(table, backbone, folder, merge=True, dtype=dtype).path)
    return open_store(folder)

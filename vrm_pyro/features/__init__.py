"""Features: states of all texts of a table, on disk or in memory."""

from vrm_pyro.features.memory import Features, encode_table
from vrm_pyro.features.meta import KEY_PARTS
from vrm_pyro.features.shards import ShardedArray
from vrm_pyro.features.sharing import write_together
from vrm_pyro.features.store import FeatureStore, open_store
from vrm_pyro.features.writing import SHARD_ROWS, write_shards, write_store

__all__ = [
    "KEY_PARTS",
    "SHARD_ROWS",
    "FeatureStore",
    "Features",
    "ShardedArray",
    "encode_table",
    "open_store",
    "write_shards",
    "write_store",
    "write_together",
]

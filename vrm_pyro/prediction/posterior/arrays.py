"""Arrays over all rows of a source, filled chunk by chunk, in memory or mapped to files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vrm_pyro import names
from vrm_pyro.data.chunks import Chunk
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.prediction.posterior.variables import VARIABLES

Group = dict[str, NDArray[Any]]


class DrawArrays:
    """Collects the variables of :data:`VARIABLES`.

    Args:
        source: Tells how many prompts, responses and pairs there are.
        num_draws: S.
        storage: Folder for memory-mapped files; arrays in memory when omitted.
    """

    def __init__(self, source: FeatureSource, num_draws: int, storage: Path | None) -> None:
        self.groups: dict[str, Group] = {}
        self._num_draws, self._storage = num_draws, storage
        self._sizes = {
            names.PROMPT_DIM: source.prompts.shape[0],
            names.RESPONSE_DIM: source.responses.shape[0],
            names.PAIR_DIM: len(source.pair_first),
        }

    def put(self, group: str, variables: Mapping[str, Tensor], chunk: Chunk) -> None:
        """Store a chunk's values: (S, items, ...) for a sampled variable, else (items, ...)."""
        rows = {
            names.PROMPT_DIM: chunk.prompts,
            names.RESPONSE_DIM: chunk.responses,
            names.PAIR_DIM: chunk.pairs,
        }
        for name, value in variables.items():
            variable = VARIABLES[group][name]
            array = self._array(group, name, value)
            values = value.numpy()
            if name == names.WEIGHTS:
                # float32 would make a tiny weight 0, and its log infinite.
                values = np.maximum(values, np.finfo(np.float32).tiny)
            where = rows[variable.dims[0]]
            array[(slice(None), where) if variable.sampled else where] = values

    def _array(self, group: str, name: str, value: Tensor) -> NDArray[Any]:
        held = self.groups.setdefault(group, {})
        if name not in held:
            variable = VARIABLES[group][name]
            lead = (self._num_draws,) if variable.sampled else ()
            shape = (*lead, self._sizes[variable.dims[0]], *value.shape[len(lead) + 1 :])
            held[name] = self._new(f"{group}.{name}", shape, variable.dtype)
        return held[name]

    def _new(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        if self._storage is None:
            return np.zeros(shape, dtype)
        return np.memmap(self._storage / f"{name}.bin", dtype=dtype, mode="w+", shape=shape)

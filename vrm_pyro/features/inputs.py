"""Rows with their states, and parts of them."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.source import FeatureSource, replace_parts, select_pairs
from vrm_pyro.features.states import Features
from vrm_pyro.features.store import FeatureStore

Ints = NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Inputs:
    """Rows and the states of their texts.

    Args:
        source: States and comparisons, in the order of ``table``.
        table: The rows themselves.
    """

    source: FeatureSource
    table: PreferenceTable

    def __repr__(self) -> str:
        width = self.source.responses.shape[1]
        return f"Inputs({self.table!r}, states of size {width})"

    @classmethod
    def of(cls, states: FeatureStore | Features) -> "Inputs":
        """Return what a store or states in memory hold."""
        return cls(cast(FeatureSource, states), states.table())

    def select(self, prompts: Ints | NDArray[np.bool_]) -> "Inputs":
        """Return some prompts with all their responses and pairs; no state is copied.

        Args:
            prompts: Indices of prompts, or a mask over them, shape (P,).
        """
        chosen = (np.flatnonzero(prompts) if prompts.dtype == bool else prompts).astype(np.int64)
        part = self.table.select_prompts(chosen)
        responses = np.flatnonzero(np.isin(self.table.response_prompt, chosen))
        source = replace_parts(
            cast(FeatureSource, part),
            prompts=SomeRows(self.source.prompts, chosen),
            responses=SomeRows(self.source.responses, responses),
        )
        return Inputs(source, part)


class SomeRows:
    """Some rows of an array of states, read when they are asked for.

    Args:
        states: The array, perhaps mapped to files.
        rows: Which rows, in this order.
    """

    def __init__(self, states: Any, rows: Ints) -> None:
        self._states, self._rows = states, rows

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the selection."""
        return (len(self._rows), *self._states.shape[1:])

    def __getitem__(self, rows: Ints) -> NDArray[np.float32]:
        return self._states[self._rows[rows]]


def without_pairs(source: FeatureSource) -> FeatureSource:
    """Return the same responses with no comparison between them."""
    return select_pairs(source, slice(0))

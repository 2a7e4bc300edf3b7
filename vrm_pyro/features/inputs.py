"""Rows together with their states, and selections of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.source import FeatureSource, replace_parts, select_pairs
from vrm_pyro.errors import InputError
from vrm_pyro.features.states import Features
from vrm_pyro.features.store import FeatureStore

Ints = NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Inputs:
    """Rows and the states of their texts.

    >>> from vrm_pyro import Backbone, encode_table
    >>> class Lengths(Backbone):
    ...     def embed(self, texts):
    ...         return np.array([[len(text.response or "")] for text in texts], dtype=np.float32)
    >>> rows = [
    ...     {"prompt": "2 + 2?", "chosen": "4", "rejected": wrong} for wrong in ("five", "22")
    ... ]
    >>> inputs = Inputs.of(encode_table(rows, Lengths(name="lengths", hidden_size=1)))
    >>> inputs.table.num_pairs, inputs.select_pairs([1]).table.num_pairs
    (2, 1)
    >>> inputs.with_labels([0.0, 1.0]).table.preference.tolist()
    [0.0, 1.0]

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
        """Return the inputs of a store, or of states in memory."""
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

    def select_pairs(self, pairs: Sequence[int] | Ints | NDArray[np.bool_]) -> "Inputs":
        """Return all prompts and responses, with some of the comparisons between them.

        Args:
            pairs: Indices of pairs, or a mask over them, shape (N,). They keep their order.

        Raises:
            InputError: If neither a pair nor a rating is left, or a ranking would be cut.
        """
        kept = np.zeros(self.table.num_pairs, dtype=bool)
        kept[np.asarray(pairs)] = True
        source = select_pairs(self.source, np.flatnonzero(kept))
        return Inputs(source, self.table.drop_pairs(~kept, "label withheld"))

    def with_labels(self, preference: Sequence[float] | NDArray[np.float64]) -> "Inputs":
        """Return the same comparisons with other labels.

        Args:
            preference: Probability in [0, 1] that the first response is preferred, shape (N,).

        Raises:
            InputError: If there is not one such label for each pair.
        """
        labels = np.asarray(preference, dtype=np.float64)
        if labels.shape != (self.table.num_pairs,) or not ((labels >= 0) & (labels <= 1)).all():
            raise InputError(
                f"with_labels: got labels of shape {labels.shape}; give one number from 0 to 1 "
                f"for each of the {self.table.num_pairs} pairs."
            )
        source = replace_parts(self.source, preference=labels)
        return Inputs(source, replace(self.table, preference=labels))


class SomeRows:
    """A lazy selection of rows of an array of states.

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

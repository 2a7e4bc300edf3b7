"""Rows with states, as the checks of a model read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.rows.table import first_subsets
from vrm_pyro.data.source import FeatureSource


@dataclass(frozen=True)
class Rows:
    """Rows with their states, and what checks need beside them.

    Args:
        source: States and outcomes, ratings in the objectives of the model.
        pair_subset: Subset of each pair, shape (N,); None where a pair has none.
        lengths: Characters of each response, shape (R,).
    """

    source: FeatureSource
    pair_subset: Sequence[str | None]
    lengths: NDArray[np.int64]

    @property
    def num_prompts(self) -> int:
        """Number of prompts P."""
        return int(self.source.prompts.shape[0])

    @cached_property
    def pair_prompt(self) -> NDArray[np.int64]:
        """Prompt of each pair, shape (N,)."""
        return np.asarray(self.source.response_prompt)[np.asarray(self.source.pair_first)]

    @cached_property
    def prompt_subset(self) -> list[str]:
        """Subset of each prompt, shape (P,); empty text for none."""
        found = first_subsets(self.num_prompts, (self.pair_prompt, self.pair_subset))
        return [name or "" for name in found]

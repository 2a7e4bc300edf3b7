"""States of a table in memory, with the interface of a feature store."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.source import OPTIONAL_COLUMNS


@dataclass(frozen=True, repr=False)
class Features:
    """States of prompts and responses with their comparisons.

    Satisfies :class:`vrm_pyro.data.source.FeatureSource`, like the store on disk.

    Args:
        prompts: Prompt states, shape (P, hidden): an array, or an object indexed like one.
        responses: Response states, shape (R, hidden), likewise.
        rows: The table without the pairs that were dropped.
        table_pairs: Index of each pair in the original table, shape (N,).
        prompt_tokens: Tokens of each prompt, shape (P,).
        response_tokens: Tokens of each response with its prompt, shape (R,).
    """

    prompts: Any
    responses: Any
    rows: PreferenceTable
    table_pairs: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]
    response_tokens: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"Features({self.rows!r}, states of size {self.hidden_size})"

    @property
    def response_prompt(self) -> NDArray[np.int64]:
        """Prompt of each response, shape (R,)."""
        return self.rows.response_prompt

    @property
    def pair_first(self) -> NDArray[np.int64]:
        """First response of each pair, shape (N,)."""
        return self.rows.pair_first

    @property
    def pair_second(self) -> NDArray[np.int64]:
        """Second response of each pair, shape (N,)."""
        return self.rows.pair_second

    @property
    def preference(self) -> NDArray[np.float64]:
        """Probability that the first is preferred, shape (N,)."""
        return self.rows.preference

    @property
    def pair_weight(self) -> NDArray[np.float64]:
        """Power on the likelihood of each pair, shape (N,)."""
        return self.rows.pair_weight

    def __getattr__(self, name: str) -> Any:
        if name in OPTIONAL_COLUMNS:
            return getattr(self.rows, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def ratings(self) -> NDArray[np.float64]:
        """Ratings in raw units, NaN where missing, shape (R, objectives)."""
        return self.rows.ratings

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the rated objectives."""
        return self.rows.objectives

    @property
    def hidden_size(self) -> int:
        """Length of a state."""
        return int(self.responses.shape[1])

    def table(self) -> PreferenceTable:
        """Return the rows, without the pairs that were dropped."""
        return self.rows

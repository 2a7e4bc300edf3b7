"""States of a table in memory, with the face of a feature store."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vrm_pyro.backbone import Backbone
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.features.cache import Encoded, cached
from vrm_pyro.features.tokens import settle, token_facts


@dataclass(frozen=True)
class Features:
    """States of prompts and responses with their comparisons.

    Satisfies :class:`vrm_pyro.data.source.FeatureSource`, like the store on disk.

    Args:
        prompts: Prompt states, shape (P, hidden): an array, or what is indexed like one.
        responses: Response states, shape (R, hidden), likewise.
        rows: The table without the pairs that were dropped.
        table_pairs: Index of each pair in the table that was given, shape (N,).
        prompt_tokens: Tokens of each prompt, shape (P,).
        response_tokens: Tokens of each response with its prompt, shape (R,).
    """

    prompts: Any
    responses: Any
    rows: PreferenceTable
    table_pairs: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]
    response_tokens: NDArray[np.int64]

    @property
    def response_prompt(self) -> NDArray[np.int64]:
        """Prompt of each response, shape (R,)."""
        return self.rows.response_prompt

    @property
    def pair_first(self) -> NDArray[np.int64]:
        """Response of each pair, shape (N,)."""
        return self.rows.pair_first

    @property
    def pair_second(self) -> NDArray[np.int64]:
        """The other response of each pair, shape (N,)."""
        return self.rows.pair_second

    @property
    def preference(self) -> NDArray[np.float64]:
        """Probability that the first is preferred, shape (N,)."""
        return self.rows.preference

    @property
    def pair_weight(self) -> NDArray[np.float64]:
        """Power on the likelihood of each pair, shape (N,)."""
        return self.rows.pair_weight

    @property
    def pair_margin(self) -> NDArray[np.float64]:
        """Known threshold of each pair, NaN where absent, shape (N,)."""
        return self.rows.pair_margin

    @property
    def pair_ranking(self) -> NDArray[np.int64]:
        """Number of the ranking of each pair, -1 for none, shape (N,)."""
        return self.rows.pair_ranking

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


def encode_table(
    table: PreferenceTable,
    backbone: Backbone,
    *,
    drop_identical: bool = True,
    progress: bool = False,
    responses_done: Callable[[int], None] | None = None,
    cache: bool = False,
) -> Features:
    """Compute the states of all texts of a table in memory.

    Args:
        table: The rows.
        backbone: What reads the texts.
        drop_identical: Whether to leave out pairs that are the same to the backbone. Scoring
            keeps them, one line per row.
        progress: Whether to show a progress bar with sequences per second.
        responses_done: Called after each batch of responses with their number.
        cache: Whether to look for the states on disk and to keep them there, see
            :mod:`vrm_pyro.features.cache`. The numbers are the same.

    Raises:
        InputError: If no pair or rating is left.
    """

    def compute() -> Encoded:
        prompts = backbone.chat.encode(table.prompts)
        responses = backbone.chat.encode(table.prompts, table.responses, table.response_prompt)
        total = len(prompts) + len(responses)
        with tqdm(total=total, unit="seq", desc="features", disable=not progress) as bar:
            states = backbone.pair_states(
                prompts, responses, table.response_prompt, bar.update, responses_done
            )
        return Encoded(*states, token_facts(prompts), token_facts(responses))

    encoded, found = cached(table, backbone, compute) if cache else (compute(), False)
    if found and responses_done is not None:
        responses_done(table.num_responses)
    facts = encoded.prompt_facts, encoded.response_facts
    rows, pairs = settle(table, *facts, drop_identical=drop_identical)
    return Features(
        prompts=encoded.prompts,
        responses=encoded.responses,
        rows=rows,
        table_pairs=pairs,
        prompt_tokens=facts[0][:, 0],
        response_tokens=facts[1][:, 0],
    )

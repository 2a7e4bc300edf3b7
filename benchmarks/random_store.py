"""Write feature stores of any size with random states, to measure memory and speed."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.backbone import Backbone, Text
from vrm_pyro.data.rows import PreferenceTable, RowReport
from vrm_pyro.features.store import FeatureStore
from vrm_pyro.features.writing import write_store


class RandomBackbone(Backbone):
    """A backbone that returns Normal draws as states, the same for the same texts.

    Args:
        hidden: Length of a state.
        seed: Seed of the draws.
    """

    def __init__(self, hidden: int, seed: int) -> None:
        super().__init__(name="random", hidden_size=hidden, version=str(seed))
        self._seed = seed

    def embed(self, sequences: Sequence[Text]) -> NDArray[Any]:
        """Return one draw per text, shape (texts, hidden)."""
        seed = [self._seed, int.from_bytes(sequences[0].digest)]
        shape = (len(sequences), self.hidden_size)
        return np.random.default_rng(seed).standard_normal(shape, np.float32)


def random_table(num_prompts: int, responses_per_prompt: int, seed: int) -> PreferenceTable:
    """Return a table with numbers as texts, and all pairs of responses of a prompt."""
    inner = np.array(list(combinations(range(responses_per_prompt), 2)), dtype=np.int64)
    starts = np.arange(num_prompts, dtype=np.int64) * responses_per_prompt
    pairs = (starts[:, None, None] + inner).reshape(-1, 2)
    num_responses, num_pairs = num_prompts * responses_per_prompt, len(pairs)
    labels = np.random.default_rng(seed).integers(0, 2, num_pairs).astype(np.float64)
    return PreferenceTable(
        prompts=[[{"role": "user", "content": str(i)}] for i in range(num_prompts)],
        responses=[str(num_prompts + i) for i in range(num_responses)],
        response_prompt=np.repeat(np.arange(num_prompts), responses_per_prompt),
        pair_first=pairs[:, 0].copy(),
        pair_second=pairs[:, 1].copy(),
        preference=labels,
        pair_weight=np.ones(num_pairs),
        ratings=np.zeros((num_responses, 0)),
        objectives=(),
        pair_id=[None] * num_pairs,
        pair_subset=[None] * num_pairs,
        pair_source=[None] * num_pairs,
        response_id=[None] * num_responses,
        response_subset=[None] * num_responses,
        report=RowReport(rows_read=num_pairs, comparisons=num_pairs),
    )


def random_store(
    path: Path | str, num_prompts: int, responses_per_prompt: int, hidden: int, seed: int
) -> FeatureStore:
    """Write a store whose states are Normal draws and whose labels are coin flips.

    It has ``num_prompts * n * (n - 1) / 2`` pairs for ``n`` responses per prompt.
    """
    table = random_table(num_prompts, responses_per_prompt, seed)
    return write_store(table, RandomBackbone(hidden, seed), path, progress=False, shard_rows=16384)

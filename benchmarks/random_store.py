"""A feature store of any size filled with random states, for measurements of memory and speed."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.backbone import Backbone
from vrm_pyro.backbone.chat import TokenSequence
from vrm_pyro.data.rows import PreferenceTable, RowReport
from vrm_pyro.features.store import FeatureStore
from vrm_pyro.features.writing import write_store


class RandomBackbone(Backbone):
    """Gives Normal draws for states, the same for the same text; holds no model.

    Args:
        hidden: Length of a state.
        seed: Seed of the draws.
    """

    def __init__(self, hidden: int, seed: int) -> None:
        self.name, self.source, self.precision = "random", "no model", "float32"
        self.is_decoder, self.pooling, self.max_length, self.token_budget = False, "mean", 8, 8192
        self._hidden, self._seed = hidden, seed
        self.chat: Any = SimpleNamespace(encode=self._sequences)

    @property
    def hidden_size(self) -> int:
        """Length of a state."""
        return self._hidden

    def key(self) -> dict[str, str | int]:
        """Return what decides a state."""
        names = ("template", "tokenizer", "weights", "pooling")
        return {**dict.fromkeys(names, f"random {self._seed}"), "max_length": 8}

    def states(self, sequences: Sequence[TokenSequence], progress: Any = None) -> NDArray[Any]:
        """Return one draw per sequence, shape (sequences, hidden)."""
        first = int(sequences[0].input_ids[-1])
        shape = (len(sequences), self._hidden)
        if progress is not None:
            progress(len(sequences))
        return np.random.default_rng([self._seed, first]).standard_normal(shape, np.float32)

    @staticmethod
    def _sequences(
        prompts: Sequence[Any], responses: Sequence[str] | None = None, owner: Any = None
    ) -> list[TokenSequence]:
        texts = [p[0]["content"] for p in prompts] if responses is None else responses
        ids = [np.array([1, int(text)], dtype=np.int32) for text in texts]
        return [TokenSequence(i, np.zeros_like(i), boundary=1, response_end=2) for i in ids]


def random_table(num_prompts: int, responses_per_prompt: int, seed: int) -> PreferenceTable:
    """Return a table of numbers for texts, with every pair of a prompt's responses."""
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

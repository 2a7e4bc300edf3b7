"""Feature stores on disk: states and comparisons, memory-mapped."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.rows import PreferenceTable, RowReport
from vrm_pyro.data.source import COLUMNS, OPTIONAL_COLUMNS, PAIR_COLUMNS
from vrm_pyro.errors import InputError
from vrm_pyro.features.meta import FILE as META_FILE
from vrm_pyro.features.meta import KEY_PARTS, OPTIONAL, OPTIONAL_KEY_PARTS, compare, read_meta
from vrm_pyro.features.shards import (
    ShardedArray,
    array_problem,
    map_array,
    shard_path,
    shard_ranges,
)
from vrm_pyro.features.texts import FILES, read_texts
from vrm_pyro.features.values import value_problem

KINDS = ("responses", "prompts")


class FeatureStore:
    """States of prompts and responses with their comparisons, on disk.

    States and arrays are memory-mapped; indexing copies the rows of a batch.
    Satisfies :class:`vrm_pyro.data.source.FeatureSource`.

    Attributes:
        path: The folder.
        meta: Metadata: origin (``key``), backbone and counts.
        prompts: Prompt states, indexable, shape (P, hidden).
        responses: Response states, indexable, shape (R, hidden).
        response_prompt: Prompt of each response, shape (R,).
        pair_first: First response of each pair, shape (N,).
        pair_second: Second response of each pair, shape (N,).
        preference: Probability that the first is preferred, shape (N,).
        pair_weight: Power on the likelihood, shape (N,).
        pair_margin: Known threshold of each pair, NaN where absent, shape (N,); None if no row
            has one.
        pair_ranking: Number of the ranking that each pair comes from, -1 for none, shape (N,);
            None if the rows have no ranking.
        ratings: Raw units, NaN where missing, shape (R, objectives).
        table_pairs: Index of each pair in the original rows, shape (N,). Pairs whose responses
            have equal tokens are left out.
        prompt_tokens: Tokens of each prompt, shape (P,).
        response_tokens: Tokens of each response with its prompt, shape (R,).
        objectives: Names of the rated objectives.
    """

    def __init__(self, path: Path, meta: dict[str, Any]) -> None:
        self.path, self.meta = path, meta
        shards = {kind: _sharded(path, meta, kind) for kind in KINDS}
        self.prompts: ShardedArray = shards["prompts"]
        self.responses: ShardedArray = shards["responses"]
        self.objectives: tuple[str, ...] = tuple(meta["objectives"])
        arrays = {name: map_array(path / f"{name}.npy") for name in array_shapes(meta)}
        self.response_prompt: NDArray[np.int64] = arrays["response_prompt"]
        self.pair_first: NDArray[np.int64] = arrays["pair_first"]
        self.pair_second: NDArray[np.int64] = arrays["pair_second"]
        self.preference: NDArray[np.float64] = arrays["preference"]
        self.pair_weight: NDArray[np.float64] = arrays["pair_weight"]
        for name in OPTIONAL_COLUMNS:
            setattr(self, name, arrays.get(name))
        self.ratings: NDArray[np.float64] = arrays["ratings"]
        self.table_pairs: NDArray[np.int64] = arrays["table_pairs"]
        self.prompt_tokens: NDArray[np.int64] = arrays["prompt_tokens"]
        self.response_tokens: NDArray[np.int64] = arrays["response_tokens"]

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.meta[f'num_{k}']:,} {k}" for k in ("pairs", *KINDS))
        return f"FeatureStore({str(self.path)!r}: {counts}, states of size {self.hidden_size})"

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureStore, (self.path, self.meta)

    @property
    def hidden_size(self) -> int:
        """Length of a state."""
        return int(self.meta["hidden_size"])

    def table(self) -> PreferenceTable:
        """Return the rows of the store with their texts, read into memory."""
        report = dict(self.meta["report"])
        for name in ("ignored_objectives", "absent_objectives"):
            report[name] = tuple(report[name])
        columns: dict[str, Any] = {
            name: np.array(getattr(self, name))
            for name in (*PAIR_COLUMNS, *self.meta.get(OPTIONAL, ()))
        }
        return PreferenceTable(
            response_prompt=np.array(self.response_prompt),
            ratings=np.array(self.ratings),
            objectives=self.objectives,
            report=RowReport(**report),
            **columns,
            **read_texts(self.path, self.meta),
        )

    def check_key(self, expected: Mapping[str, str | int]) -> None:
        """Raise unless the states come from the expected rows and backbone.

        Args:
            expected: Entries to compare, such as ``backbone.key()`` or
                ``{"rows": table.content_hash()}``; other entries are not compared.

        Raises:
            InputError: If an entry differs; names each one.
        """
        compare(str(self.path), self.meta["key"], expected, KEY_PARTS | OPTIONAL_KEY_PARTS)


def open_store(path: str | os.PathLike[str]) -> FeatureStore:
    """Open a finished feature store.

    Raises:
        InputError: If the folder is no store, the store is not finished, a file is missing,
            truncated or of another shape, or an array holds a value out of range. States are
            looked at when their shard is first read.
    """
    folder = Path(path)
    meta = read_meta(folder)
    if not meta["complete"]:
        done = sum(shard_problem(folder, meta, kind, i) is None for kind, i in _all_shards(meta))
        raise InputError(
            f"{folder}: the store is not finished ({done} of {len(_all_shards(meta))} shards). "
            "Run the command that writes it again; it resumes where it stopped."
        )
    problem = store_problem(folder, meta)
    if problem is not None:
        raise InputError(
            f"{problem}. Run the command that wrote the store again (vrm-pyro features with the "
            "same settings); only what is damaged is computed anew."
        )
    store = FeatureStore(folder, meta)
    problem = value_problem(
        folder, meta, {name: getattr(store, name) for name in array_shapes(meta)}
    )
    if problem is not None:
        raise InputError(f"{problem}. Write the store again (--overwrite).")
    return store


def store_problem(folder: Path, meta: dict[str, Any]) -> str | None:
    """Return the first damaged file of a finished store and its problem, or None."""
    for kind, index in _all_shards(meta):
        problem = shard_problem(folder, meta, kind, index)
        if problem is not None:
            return f"{shard_path(folder, kind, index)}: {problem}"
    for name, (shape, dtype) in array_shapes(meta).items():
        problem = array_problem(folder / f"{name}.npy", shape, dtype)
        if problem is not None:
            return f"{folder / name}.npy: {problem}"
    for name in FILES:
        if name not in meta["sizes"]:
            return f"{folder / META_FILE}: 'sizes.{name}' is missing"
        size = os.path.getsize(folder / name) if (folder / name).is_file() else None
        if size != meta["sizes"].get(name):
            found = "is missing" if size is None else f"has {size} bytes"
            return f"{folder / name}: {found}, but {meta['sizes'].get(name)} were written"
    return None


def shard_problem(folder: Path, meta: dict[str, Any], kind: str, index: int) -> str | None:
    """Return what is wrong with a shard of states, or None."""
    first, end = shard_ranges(meta[f"num_{kind}"], meta["writing"]["shard_rows"])[index]
    shape = (end - first, meta["hidden_size"])
    return array_problem(shard_path(folder, kind, index), shape, meta["writing"]["dtype"])


def array_shapes(meta: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], type]]:
    """Return shape and type of each array that is not sharded."""
    prompts, responses = meta["num_prompts"], meta["num_responses"]
    pairs = meta["num_pairs"]
    columns = (*PAIR_COLUMNS, *meta.get(OPTIONAL, ()))
    return {
        "response_prompt": ((responses,), np.int64),
        **{name: ((pairs,), COLUMNS[name].dtype) for name in columns},
        "ratings": ((responses, len(meta["objectives"])), np.float64),
        "table_pairs": ((pairs,), np.int64),
        "prompt_tokens": ((prompts,), np.int64),
        "response_tokens": ((responses,), np.int64),
    }


def _all_shards(meta: dict[str, Any]) -> list[tuple[str, int]]:
    size = meta["writing"]["shard_rows"]
    return [
        (kind, i) for kind in KINDS for i in range(len(shard_ranges(meta[f"num_{kind}"], size)))
    ]


def _sharded(folder: Path, meta: dict[str, Any], kind: str) -> ShardedArray:
    rows, shard_rows = meta[f"num_{kind}"], meta["writing"]["shard_rows"]
    count = len(shard_ranges(rows, shard_rows))
    paths = [shard_path(folder, kind, i) for i in range(count)]
    return ShardedArray(paths, (rows, meta["hidden_size"]), shard_rows)

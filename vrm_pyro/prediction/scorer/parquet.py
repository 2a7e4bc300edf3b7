"""Score files as Parquet."""

import itertools
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vrm_pyro.atomic import write_file
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.prediction.rating_range import KEY

_GROUP_ROWS: Final = 10_000
_BY_OBJECTIVE: Final = ("weights", "scores", "scores_sd")


def score_schema(loaded: LoadedModel) -> pa.Schema:
    """Return the columns of a model's score file: the keys of its lines.

    ``weights``, ``scores`` and ``scores_sd`` are structs with a field for each objective; the
    baseline has none of them. A model that knows the ranges of its training ratings has a list
    of the scores outside them. What only comparisons have is null for single responses.
    """
    number = pa.float64()
    columns = {"id": pa.string(), "response_index": pa.int64()}
    columns |= dict.fromkeys(("reward_mean", "reward_sd"), number)
    parts = ("weights", "features", "interaction", "epistemic")
    columns |= {
        f"variance_{'from_' if part in ('weights', 'features') else ''}{part}": number
        for part in parts
    }
    if loaded.config.has_latents:
        columns |= dict.fromkeys(
            _BY_OBJECTIVE, pa.struct([(name, number) for name in loaded.objectives])
        )
    if loaded.rating_ranges:
        item = pa.struct([("objective", pa.string()), ("low", number), ("high", number)])
        columns[KEY] = pa.list_(item)
    columns["p_chosen"] = number
    if loaded.model.likelihood.lapses:
        columns["p_chosen_without_lapse"] = number
    columns |= dict.fromkeys(("delta_variance_ambiguity", "delta_variance_epistemic"), number)
    return pa.schema(list(columns.items()))


def prompt_schema() -> pa.Schema:
    """Return the columns of a score file by prompt: the keys of its lines."""
    numbers = ("reward_mean", "reward_sd", "p_best", "lower_bound")
    response = pa.struct(
        [
            ("id", pa.string()),
            ("response_index", pa.int64()),
            *((name, pa.float64()) for name in numbers),
            ("rank", pa.int64()),
        ]
    )
    return pa.schema([("id", pa.string()), ("responses", pa.list_(response))])


def write_parquet(
    lines: Iterable[Mapping[str, Any]], path: str | os.PathLike[str], schema: pa.Schema
) -> int:
    """Write lines as Parquet, whole or not at all, and return how many there are.

    Args:
        lines: Lines of a score file.
        path: The file.
        schema: Its columns, of :func:`score_schema` or :func:`prompt_schema`.

    Raises:
        InputError: If the file cannot be written there.
        ValueError: If a line has a key that is no column.
    """
    count, remaining = 0, iter(lines)
    known = {*schema.names, *_BY_OBJECTIVE}
    with write_file(path) as partial, pq.ParquetWriter(partial, schema) as writer:
        while group := list(itertools.islice(remaining, _GROUP_ROWS)):
            other = set().union(*group) - known
            if other:
                raise ValueError(f"the score file has no column {sorted(other)[0]!r}")
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count

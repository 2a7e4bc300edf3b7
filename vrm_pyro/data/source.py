"""Feature sources: states of texts with the columns of pairs and ratings."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.errors import InputError


@runtime_checkable
class FeatureSource(Protocol):
    """Protocol of backbone states with the comparisons of their texts.

    A source may also have the attributes in :data:`OPTIONAL_COLUMNS`; each is None or missing if
    no pair has a value.

    Attributes:
        prompts: Prompt states, indexable by an integer array, shape (P, hidden).
        responses: Response states, shape (R, hidden).
        response_prompt: Prompt index of every response, shape (R,).
        pair_first: Response index of the first answer of every pair, shape (N,).
        pair_second: Response index of the second answer, shape (N,).
        preference: Probability in [0, 1] that the first is preferred, shape (N,).
        pair_weight: Power on the likelihood of the pair, shape (N,).
        ratings: Ratings in raw units, NaN where missing, shape (R, objectives).
        objectives: Names of the rated objectives.
    """

    prompts: Any
    responses: Any
    response_prompt: NDArray[np.int64]
    pair_first: NDArray[np.int64]
    pair_second: NDArray[np.int64]
    preference: NDArray[np.float64]
    pair_weight: NDArray[np.float64]
    ratings: NDArray[np.float64]
    objectives: tuple[str, ...]


class Column(NamedTuple):
    """One column of pairs, shape (N,).

    Attributes:
        dtype: Type of its numbers.
        absent: Value for pairs without one; None if every pair has a value. A source, batch or
            store without any value lacks the whole column.
    """

    dtype: type[np.generic]
    absent: float | None = None


#: All columns of pairs. Selection, collation, tables, stores and posterior files take names, types
#: and absent values from here. To add a column, add a line here, a field to
#: :class:`~vrm_pyro.data.rows.PreferenceTable` and to :class:`~vrm_pyro.data.batch.FeatureBatch`
#: (with its meaning for rows and for a model), and its key to ``data/rows/schema.py``.
COLUMNS: Final[dict[str, Column]] = {
    "pair_first": Column(np.int64),
    "pair_second": Column(np.int64),
    "preference": Column(np.float64),
    "pair_weight": Column(np.float64),
    "pair_margin": Column(np.float64, np.nan),
    "pair_ranking": Column(np.int64, -1),
}
PAIR_COLUMNS: Final = tuple(name for name, column in COLUMNS.items() if column.absent is None)
#: Columns that only some sources have, with the value for pairs without one.
OPTIONAL_COLUMNS: Final[dict[str, float]] = {
    name: column.absent for name, column in COLUMNS.items() if column.absent is not None
}


def optional_column(source: Any, name: str) -> NDArray[Any] | None:
    """Return a column of :data:`OPTIONAL_COLUMNS`, or None if no pair has a value.

    Always use this: a source may lack the attribute.
    """
    values = getattr(source, name, None)
    if values is None:
        return None
    values = np.asarray(values)
    absent = OPTIONAL_COLUMNS[name]
    missing = np.isnan(values) if np.isnan(absent) else values == absent
    return None if missing.all() else values


class SourceParts:
    """A feature source derived from another by :func:`replace_parts`.

    Args:
        **values: The attributes of :class:`FeatureSource` and of :data:`COLUMNS`.
    """

    prompts: Any
    responses: Any
    response_prompt: NDArray[np.int64]
    pair_first: NDArray[np.int64]
    pair_second: NDArray[np.int64]
    preference: NDArray[np.float64]
    pair_weight: NDArray[np.float64]
    ratings: NDArray[np.float64]
    objectives: tuple[str, ...]

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


_PARTS: Final = tuple(FeatureSource.__annotations__)


def replace_parts(source: FeatureSource, **changes: Any) -> SourceParts:
    """Return a source with some attributes replaced; the others are shared, not copied."""
    values = {name: getattr(source, name) for name in _PARTS}
    values |= {name: getattr(source, name, None) for name in OPTIONAL_COLUMNS}
    return SourceParts(**(values | changes))


def select_pairs(source: FeatureSource, pairs: NDArray[np.int64] | slice) -> SourceParts:
    """Return the source with all responses but only the selected pairs.

    Raises:
        InputError: If a ranking would lose some of its pairs and keep others.
    """
    ranking = optional_column(source, "pair_ranking")
    if ranking is not None and np.isin(ranking, ranking[pairs][ranking[pairs] >= 0]).sum() != (
        (ranking[pairs] >= 0).sum()
    ):
        raise InputError(
            "the rows hold rankings, whose pairs cannot be withheld one by one. Use rows of pairs."
        )
    columns: dict[str, Any] = {
        name: np.asarray(getattr(source, name))[pairs] for name in PAIR_COLUMNS
    }
    for name in OPTIONAL_COLUMNS:
        values = optional_column(source, name)
        columns[name] = None if values is None else values[pairs]
    return replace_parts(source, **columns)


def with_objectives(source: FeatureSource, objectives: Sequence[str]) -> FeatureSource:
    """Return the source with only the ratings of these objectives, in this order.

    An objective that the source does not rate becomes a column of missing ratings (NaN).
    """
    objectives = tuple(objectives)
    if tuple(source.objectives) == objectives:
        return source
    ratings = np.full((len(source.response_prompt), len(objectives)), np.nan)
    for column, name in enumerate(objectives):
        if name in source.objectives:
            ratings[:, column] = source.ratings[:, source.objectives.index(name)]
    return replace_parts(source, ratings=ratings, objectives=objectives)

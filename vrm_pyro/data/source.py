"""The protocol of feature sources: columns of pairs and ratings, with states of texts."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.errors import InputError


@runtime_checkable
class FeatureSource(Protocol):
    """Anything that holds backbone states and the comparisons made on them.

    A source may also have an attribute of :data:`OPTIONAL_COLUMNS`; it is None or left out where
    no pair has one.

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


#: What only some sources know of their pairs, and the value of a pair that has none:
#: ``pair_margin``, the known threshold of a pair, and ``pair_ranking``, the number of the ranking
#: that it was cut out of, each (N,).
OPTIONAL_COLUMNS: Final[dict[str, float]] = {"pair_margin": np.nan, "pair_ranking": -1}
PAIR_COLUMNS: Final = ("pair_first", "pair_second", "preference", "pair_weight")


def optional_column(source: FeatureSource, name: str) -> NDArray[Any] | None:
    """Return a column of :data:`OPTIONAL_COLUMNS`, or None where no pair has a value.

    The one place that knows of sources without it.
    """
    values = getattr(source, name, None)
    if values is None:
        return None
    values = np.asarray(values)
    absent = OPTIONAL_COLUMNS[name]
    missing = np.isnan(values) if np.isnan(absent) else values == absent
    return None if missing.all() else values


@dataclass
class SourceParts:
    """A feature source made of another by :func:`replace_parts`."""

    prompts: Any
    responses: Any
    response_prompt: NDArray[np.int64]
    pair_first: NDArray[np.int64]
    pair_second: NDArray[np.int64]
    preference: NDArray[np.float64]
    pair_weight: NDArray[np.float64]
    ratings: NDArray[np.float64]
    objectives: tuple[str, ...]
    pair_margin: NDArray[np.float64] | None = None
    pair_ranking: NDArray[np.int64] | None = None


def replace_parts(source: FeatureSource, **changes: Any) -> SourceParts:
    """Return a source with some attributes exchanged; the others are taken over, not copied."""
    values: dict[str, Any] = {
        item.name: getattr(source, item.name, None)
        if item.name in OPTIONAL_COLUMNS
        else getattr(source, item.name)
        for item in fields(SourceParts)
    }
    return SourceParts(**(values | changes))


def select_pairs(source: FeatureSource, pairs: NDArray[np.int64] | slice) -> SourceParts:
    """Return the same responses with the comparisons of some pairs alone.

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
    """Return the source with the ratings of these objectives alone, in this order.

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

"""Scores outside the range of the training ratings, where a model extrapolates."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ranges: TypeAlias = Mapping[str, tuple[float, float]]
"""Least and greatest training rating of each rated objective, raw units."""

KEY: Final = "scores_outside_ratings"

log = logging.getLogger(__name__)


def _limits(objectives: Sequence[str], ranges: Ranges) -> NDArray[np.float64]:
    """Return the range of each objective, shape (2, K); infinite where there is none."""
    free = (-np.inf, np.inf)
    return np.array([ranges.get(name, free) for name in objectives], np.float64).reshape(-1, 2).T


def outside(scores: NDArray[Any], objectives: Sequence[str], ranges: Ranges) -> NDArray[np.bool_]:
    """Return which scores no training rating reaches.

    >>> outside(np.array([[4.0, 9.2]]), ["clarity", "safety"], {"safety": (1.0, 6.9)})
    array([[False,  True]])

    Args:
        scores: Expected raw ratings, shape (R, K).
        objectives: Names of the objectives, K of them.
        ranges: Of those that were rated.
    """
    low, high = _limits(objectives, ranges)
    return np.asarray((scores < low) | (scores > high))


def flags(
    scores: NDArray[Any], objectives: Sequence[str], ranges: Ranges
) -> dict[str, list[dict[str, Any]]]:
    """Return :data:`KEY` with each objective whose score, shape (K,), is outside its range.

    Empty where no range is known, as for a run of an earlier version.

    >>> flags(np.array([4.0, 9.2]), ["clarity", "safety"], {"safety": (1.0, 6.9)})
    {'scores_outside_ratings': [{'objective': 'safety', 'low': 1.0, 'high': 6.9}]}
    """
    if not ranges:
        return {}
    found = []
    far = outside(scores, objectives, ranges)
    for name in (name for name, is_far in zip(objectives, far, strict=True) if is_far):
        low, high = ranges[name]
        found.append({"objective": name, "low": low, "high": high})
    return {KEY: found}


def outside_words(score: float, objective: str, response: str, ranges: Ranges) -> str:
    """Return the words for one score outside its range.

    >>> outside_words(9.2, "safety", "A", {"safety": (1.0, 6.9)})[:75]
    'The score of A on `safety`, 9.20, is above every training rating (1 to 6.9)'
    """
    low, high = ranges[objective]
    side = "above" if score > high else "below"
    return (
        f"The score of {response} on `{objective}`, {score:.2f}, is {side} every training rating "
        f"({low:g} to {high:g}): the model extrapolates there, which its interval may not show."
    )


def log_outside(
    where: str, counts: NDArray[Any], total: int, objectives: Sequence[str], ranges: Ranges
) -> None:
    """Log how many scores of each objective are outside; nothing where none is.

    Args:
        where: Begins the message: what was scored.
        counts: Responses with a score outside, shape (K,).
        total: Number of responses.
        objectives: Names of the objectives, K of them.
        ranges: Of those that were rated.
    """
    parts = []
    for name, count in zip(objectives, counts, strict=True):
        if count:
            low, high = ranges[name]
            parts.append(f"{name} {count:,} (range {low:g} to {high:g})")
    if parts:
        log.warning(
            "%s: of %s responses these have a score outside the training ratings: %s",
            where,
            f"{total:,}",
            ", ".join(parts),
        )

"""Represent rankings as weighted pairs, and keep them complete when pairs are dropped."""

import math

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
#: Ranking number of pairs outside rankings.
NO_RANKING = -1


def pairs_of(size: int) -> list[tuple[int, int]]:
    """Return all pairs of ranks in a ranking, the better one first.

    >>> pairs_of(3)
    [(0, 1), (0, 2), (1, 2)]
    """
    return [(better, worse) for worse in range(size) for better in range(worse)]


def pair_weight(weight: float, size: int) -> float:
    """Return the weight of each pair of a ranking: 2 / size times the ranking's weight.

    The size (size - 1) / 2 pairs of a ranking then weigh size - 1 in total, the number of
    comparisons that determine an order of ``size`` items. With weight 1 each, they would count
    the ranking size / 2 times.

    >>> pair_weight(1.0, 4)
    0.5
    """
    return 2 * weight / size


def complete_drop(
    ranking: Ints, first: Ints, second: Ints, dropped: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the pairs to drop so that every ranking stays complete.

    If a pair is dropped, its lower item leaves the ranking with all its pairs. So two responses
    that became equal are one item, at the higher of the two ranks.

    Args:
        ranking: Number of the ranking of each pair, -1 for none, shape (N,).
        first: The better item of each pair of a ranking, shape (N,).
        second: The worse item, shape (N,).
        dropped: True for pairs to drop, shape (N,).
    """
    result = dropped.copy()
    broken = np.unique(ranking[dropped & (ranking != NO_RANKING)])
    order = np.argsort(ranking, kind="stable")
    starts = np.searchsorted(ranking[order], broken, side="left")
    ends = np.searchsorted(ranking[order], broken, side="right")
    for start, end in zip(starts, ends, strict=True):
        rows = order[start:end]
        lost = {frozenset((int(first[n]), int(second[n]))) for n in rows[dropped[rows]]}
        items = np.unique(np.append(first[rows], second[rows]))
        wins = {int(item): int((first[rows] == item).sum()) for item in items}
        kept: set[int] = set()
        for item in sorted(wins, key=wins.__getitem__, reverse=True):
            if not any(frozenset((item, other)) in lost for other in kept):
                kept.add(item)
        for n in rows:
            result[n] = not {int(first[n]), int(second[n])} <= kept
    return result


def shrink(
    ranking: Ints, weight: NDArray[np.float64], kept: NDArray[np.bool_]
) -> tuple[Ints, NDArray[np.float64]]:
    """Return ranking numbers and weights of the kept pairs, updated for shorter rankings.

    A ranking that is left with two items becomes an ordinary pair.

    Args:
        ranking: Number of the ranking of each pair before dropping, shape (N,).
        weight: Weight of each pair before dropping, shape (N,).
        kept: True for pairs that are kept, consistent with :func:`complete_drop`.
    """
    size = _sizes(ranking)[kept]
    number, value = ranking[kept], weight[kept].copy()
    left = _sizes(number)
    ranked = number != NO_RANKING
    value[ranked] *= size[ranked] / left[ranked]
    return np.where(left == 2, NO_RANKING, number), value


def _sizes(ranking: Ints) -> Ints:
    """Return the number of items in the ranking of each pair; 2 outside rankings."""
    _, index, pairs = np.unique(ranking, return_inverse=True, return_counts=True)
    sizes = np.array([(1 + math.isqrt(1 + 8 * int(count))) // 2 for count in pairs])
    return np.where(ranking == NO_RANKING, 2, sizes[index]) if len(ranking) else ranking

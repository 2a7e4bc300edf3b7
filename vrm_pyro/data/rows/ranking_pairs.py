"""Rankings as pairs: what is left of one when pairs of it are dropped."""

import math

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
#: Number of the ranking of a pair that is part of none.
NO_RANKING = -1


def pairs_of(size: int) -> list[tuple[int, int]]:
    """Return all pairs of places in a ranking, the better place first.

    >>> pairs_of(3)
    [(0, 1), (0, 2), (1, 2)]
    """
    return [(better, worse) for worse in range(size) for better in range(worse)]


def pair_weight(weight: float, size: int) -> float:
    """Return the weight of each pair of a ranking of ``size`` items: 2 / size of its own.

    All its size (size - 1) / 2 pairs then weigh size - 1 together, the number of comparisons that
    an order of so many items takes; with weight 1 each they would count it size / 2 times.

    >>> pair_weight(1.0, 4)
    0.5
    """
    return 2 * weight / size


def complete_drop(
    ranking: Ints, first: Ints, second: Ints, dropped: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the pairs to drop so that what is left of every ranking is a ranking.

    Where a pair goes, its lower item leaves the ranking with all its pairs: two responses that
    have become equal are one item then, on the higher of the two places.

    Args:
        ranking: Number of the ranking of each pair, -1 for none, shape (N,).
        first: The better item of each pair of a ranking, shape (N,).
        second: The other one, shape (N,).
        dropped: True for pairs that are to go, shape (N,).
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
    """Return numbers and weights of the pairs that are kept, for rankings that became shorter.

    A ranking of two is a pair like any other.

    Args:
        ranking: Number of the ranking of each pair before, shape (N,).
        weight: Weight of each pair before, shape (N,).
        kept: True for the pairs that are left, as :func:`complete_drop` leaves them.
    """
    size = _sizes(ranking)[kept]
    number, value = ranking[kept], weight[kept].copy()
    left = _sizes(number)
    ranked = number != NO_RANKING
    value[ranked] *= size[ranked] / left[ranked]
    return np.where(left == 2, NO_RANKING, number), value


def _sizes(ranking: Ints) -> Ints:
    """Return how many items the ranking of each pair has; 2 where it is part of none."""
    _, index, pairs = np.unique(ranking, return_inverse=True, return_counts=True)
    sizes = np.array([(1 + math.isqrt(1 + 8 * int(count))) // 2 for count in pairs])
    return np.where(ranking == NO_RANKING, 2, sizes[index]) if len(ranking) else ranking

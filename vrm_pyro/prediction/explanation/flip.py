"""The smallest change of weights or of a score that makes another response win.

The expected reward difference is linear in the weights and in every score, so each answer is
exact: a threshold of one line, or the corner of a linear program.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

Floats = NDArray[np.float64]

# Rewards this near, relative to the largest part of them, are a tie.
_TIE: Final = 1e-9


class WeightShift(NamedTuple):
    """The smallest shift of weight that makes a response the best one.

    Attributes:
        response: The response that wins.
        moved: Weight that moves from some objectives to others: half of sum_k |w'_k - w_k|.
        weights: w', on the simplex, shape (K,): there the response draws level with the best.
    """

    response: int
    moved: float
    weights: Floats


class WeightThreshold(NamedTuple):
    """Where the lead changes as one weight moves and the others share the rest as they do now.

    Attributes:
        objective: The objective k whose weight moves.
        more: Whether w_k rises to the threshold; else it falls.
        threshold: w_k there.
        response: The response that leads beyond it.
    """

    objective: int
    more: bool
    threshold: float
    response: int


def smallest_shift(
    weights: Floats, slopes: Floats, rewards: Floats, response: int
) -> WeightShift | None:
    """Return the smallest shift of weight with which one response is best, None without any.

    Minimise half of sum_k |d_k| over shifts d with w + d on the simplex and, for every other
    response j, E[r_i - r_j] + d'(g_i - g_j) >= 0: a linear program, solved exactly. "Best" is at
    least as good as all others, for the limit itself is a tie.

    Args:
        weights: E[w], shape (K,), on the simplex.
        slopes: g, the rate at which each expected reward rises with each weight, shape (R, K).
        rewards: E[r], shape (R,), at the weights as they are.
        response: i.
    """
    num_objectives = len(weights)
    others = np.delete(np.arange(len(rewards)), response)
    gain = slopes[response] - slopes[others]
    lead = rewards[response] - rewards[others]
    # d = up - down with up, down >= 0; what moves is sum(down) = sum(up). w + d >= 0.
    size = max(float(np.abs(gain).max()), float(np.abs(lead).max()), np.finfo(np.float64).tiny)
    found = linprog(
        np.repeat([0.5, 0.5], num_objectives),
        A_ub=-np.hstack([gain, -gain]) / size,
        b_ub=lead / size,
        A_eq=np.repeat([[1.0, -1.0]], num_objectives, axis=1),
        b_eq=[0.0],
        bounds=[(0, None)] * num_objectives + [(0, float(w)) for w in weights],
        method="highs",
    )
    if found.status != 0:  # infeasible: no weights do it
        return None
    shift = found.x[:num_objectives] - found.x[num_objectives:]
    return WeightShift(response, float(np.abs(shift).sum() / 2), weights + shift)


def weight_thresholds(weights: Floats, slopes: Floats, rewards: Floats) -> list[WeightThreshold]:
    """Return where the response that leads now loses its lead as one weight moves.

    For each objective, the nearest threshold above w_k and the nearest below, as far as there is
    one in [0, 1]; at weight t for k the others are (1 - t) / (1 - w_k) times what they are, or
    share equally what k leaves where it has all. Ordered by how far w_k has to move.

    Args:
        weights: E[w], shape (K,), on the simplex.
        slopes: Rates as in :func:`smallest_shift`, shape (R, K).
        rewards: E[r], shape (R,).
    """
    leader = int(rewards.argmax())
    gap = rewards[leader] - rewards
    found = []
    for k in range(len(weights)):
        direction = _toward(weights, k)
        change = (slopes[leader] - slopes) @ direction  # of each gap, for a unit of w_k
        for more, room in ((True, 1 - weights[k]), (False, weights[k])):
            rate = change if more else -change
            falling = rate < -_TIE * max(float(np.abs(slopes).max()), 1e-300)
            if not falling.any():
                continue
            step = np.full(len(gap), np.inf)
            step[falling] = gap[falling] / -rate[falling]
            step[leader] = np.inf
            nearest = float(step.min())
            if nearest > room:
                continue
            # Where several draw level at once, the one that climbs fastest leads beyond.
            level = np.flatnonzero(step <= nearest * (1 + _TIE) + _TIE * room)
            winner = int(level[rate[level].argmin()])
            threshold = weights[k] + (nearest if more else -nearest)
            found.append(WeightThreshold(k, more, float(threshold), winner))
    return sorted(found, key=lambda t: abs(t.threshold - weights[t.objective]))


def _toward(weights: Floats, k: int) -> Floats:
    """Return the direction in which w_k rises by 1 and the others fall in proportion, (K,)."""
    others = np.delete(weights, k)
    rest = others.sum()
    if len(others) == 0:
        return np.zeros(1)  # a single weight is 1
    share = others / rest if rest > _TIE else np.full(len(others), 1 / len(others))
    return np.insert(-share, k, 1.0)


def score_changes(leverage: Floats, gap: float) -> Floats:
    """Return how much each score of a response has to rise to close a gap, shape (K,).

    A rise of s_k alone by x closes x E[beta w_k]; infinite where the objective has no weight. The
    same falls of the leader's scores close it too.

    Args:
        leverage: E[beta w_k], shape (K,), >= 0.
        gap: Expected reward of the leader minus that of the response, >= 0.
    """
    change: NDArray[Any] = np.full(len(leverage), np.inf)
    np.divide(gap, leverage, out=change, where=leverage > 0)
    return change

"""Find the smallest change of weights, or of one score, that makes another response win.

The expected reward difference is linear in the weights and in every score, so each answer is
exact: the root of a linear function, or the solution of a linear program.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

Floats = NDArray[np.float64]

# Rewards closer than this, relative to their largest part, are a tie.
_TIE: Final = 1e-9


class WeightShift(NamedTuple):
    """The smallest shift of weight that makes a response the best one.

    Attributes:
        response: Index of the response that wins.
        moved: Weight moved between objectives: half of sum_k |w'_k - w_k|.
        weights: w', on the simplex, shape (K,), where the response ties with the best.
    """

    response: int
    moved: float
    weights: Floats


class WeightThreshold(NamedTuple):
    """The value of one weight at which the lead changes, with the others in fixed proportion.

    Attributes:
        objective: Index k of the weight.
        more: Whether the threshold lies above w_k; else below.
        threshold: Value of w_k at which the lead changes.
        response: Index of the response that leads beyond it.
    """

    objective: int
    more: bool
    threshold: float
    response: int


def smallest_shift(
    weights: Floats, slopes: Floats, rewards: Floats, response: int
) -> WeightShift | None:
    """Return the smallest shift of weight that makes a response the best; None if none does.

    Minimise half of sum_k |d_k| over shifts d with w + d on the simplex and, for every other
    response j, E[r_i - r_j] + d'(g_i - g_j) >= 0: a linear program, solved exactly. "Best" means
    at least as good as all others; at the solution there is a tie.

    Args:
        weights: E[w], shape (K,), on the simplex.
        slopes: g, the derivative of each expected reward by each weight, shape (R, K).
        rewards: E[r], shape (R,), at the current weights.
        response: Index i.
    """
    num_objectives = len(weights)
    others = np.delete(np.arange(len(rewards)), response)
    gain = slopes[response] - slopes[others]
    lead = rewards[response] - rewards[others]
    # d = up - down with up, down >= 0. The moved weight is sum(down) = sum(up), and w + d >= 0.
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
    if found.status != 0:  # infeasible: no weights make it best
        return None
    shift = found.x[:num_objectives] - found.x[num_objectives:]
    return WeightShift(response, float(np.abs(shift).sum() / 2), weights + shift)


def weight_thresholds(weights: Floats, slopes: Floats, rewards: Floats) -> list[WeightThreshold]:
    """Return the values of single weights at which the leading response loses its lead.

    For each objective: the nearest threshold above w_k and the nearest below, if they exist in
    [0, 1]. If w_k becomes t, the other weights are scaled by (1 - t) / (1 - w_k); if w_k is 1,
    they share 1 - t equally. Sorted by distance from w_k.

    Args:
        weights: E[w], shape (K,), on the simplex.
        slopes: Derivatives as in :func:`smallest_shift`, shape (R, K).
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
            # If several tie at once, the one with the largest slope leads beyond.
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
    """Return the rise of each single score of a response that closes a gap, shape (K,).

    A rise of s_k by x closes x E[beta w_k], so the rise is infinite for an objective without
    weight. The same fall of the leader's score also closes the gap.

    Args:
        leverage: E[beta w_k], shape (K,), >= 0.
        gap: Expected reward of the leader minus that of the response, >= 0.
    """
    change: NDArray[Any] = np.full(len(leverage), np.inf)
    np.divide(gap, leverage, out=change, where=leverage > 0)
    return change

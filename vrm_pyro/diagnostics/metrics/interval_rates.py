"""Metrics of the interval that a model gives a preference probability."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.diagnostics.metrics.pair_metrics import Estimate, cluster_mean

Floats = NDArray[Any]
NUM_BINS: Final = 20


class IntervalRates(NamedTuple):
    """Rates of the intervals of one set of pairs.

    Attributes:
        lower_calibration_error: How far lower bounds are above the share of labels, over bins of
            the lower bound: 0 if they bound it.
        upper_calibration_error: How far upper bounds are below it, likewise.
        confident_true: Share of labels on the side of 1/2 on which the whole interval lies.
        confident_false: Share of labels on the other side of such an interval.
    """

    lower_calibration_error: float
    upper_calibration_error: float
    confident_true: Estimate
    confident_false: Estimate


def interval_rates(
    lower: Floats,
    upper: Floats,
    preference: Floats,
    weight: Floats,
    prompt: NDArray[np.int64],
    num_bins: int = NUM_BINS,
) -> IntervalRates:
    """Return calibration errors of both bounds, and how often a confident interval is right.

    Each pair counts in both orders, in which the bounds change places, so that both errors are
    the same; they are kept apart because others report both.

    >>> one = np.ones(4)
    >>> found = interval_rates(
    ...     np.array([0.6, 0.6, 0.2, 0.7]), np.array([0.8, 0.8, 0.7, 0.9]),
    ...     np.array([1.0, 1.0, 1.0, 0.0]), one, np.arange(4))
    >>> found.confident_true.value, found.confident_false.value
    (0.5, 0.25)

    Source: RewardUQ, ``metrics.py``: expected lower and upper bound calibration error over 20
    equal bins, and confident true and false rates.

    Args:
        lower: Lower bound of p(first preferred), shape (N,).
        upper: Upper bound, (N,).
        preference: Probability in [0, 1] that the first is preferred, (N,).
        weight: Weight of each pair, (N,).
        prompt: Prompt of each pair, (N,).
        num_bins: Equal bins of [0, 1].
    """
    low, high, label = (np.asarray(a, dtype=np.float64) for a in (lower, upper, preference))
    mass = np.concatenate([weight, weight])
    truth = np.concatenate([label, 1 - label])

    def error(bound: Floats, sign: float) -> float:
        place = np.clip((bound * num_bins).astype(np.int64), 0, num_bins - 1)
        gap = np.bincount(place, sign * mass * (bound - truth), num_bins)
        return float(np.maximum(gap, 0).sum() / mass.sum())

    above, below = low > 0.5, high < 0.5
    right = np.where(above, label, np.where(below, 1 - label, 0.0))
    wrong = np.where(above, 1 - label, np.where(below, label, 0.0))
    return IntervalRates(
        error(np.concatenate([low, 1 - high]), 1.0),
        error(np.concatenate([high, 1 - low]), -1.0),
        cluster_mean(right, weight, prompt),
        cluster_mean(wrong, weight, prompt),
    )

"""Confidence of predictions against the share of pairs that were right: what a figure shows."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from vrm_pyro.diagnostics.metrics.pair_metrics import accuracy_values, cluster_mean

Floats = NDArray[np.float64]

Z_90: Final = 1.645  # standard errors on each side of a 90% interval


class Reliability(NamedTuple):
    """Reliability of one model.

    Attributes:
        bin_confidence: Mean confidence of each bin, rising, (B,).
        share: Share of its pairs that were predicted right, (B,).
        lower: Lower ends of 90% intervals of the shares, (B,).
        upper: Upper ends.
        confidence: Confidence of every pair with weight, rising, (N,).
        fit: Isotonic fit of the share over all pairs, (N,).
    """

    bin_confidence: Floats
    share: Floats
    lower: Floats
    upper: Floats
    confidence: Floats
    fit: Floats


def reliability_points(
    p: Floats, outcome: Floats, weight: Floats, prompt: NDArray[np.int64], num_bins: int = 10
) -> Reliability:
    """Return bins of equal weight of the confidence max(p, 1 - p), and the isotonic fit.

    Args:
        p: Probability that the first response is preferred, shape (N,).
        outcome: Probability in [0, 1] that it was, shape (N,).
        weight: Weight of every pair, shape (N,).
        prompt: Prompt of every pair, shape (N,): the unit of the intervals.
        num_bins: Number of bins.
    """
    confidence, right = np.maximum(p, 1 - p), accuracy_values(p, outcome)
    order = np.argsort(confidence, kind="stable")
    order = order[weight[order] > 0]
    # The middle of a pair's own mass decides its bin: equal weights make bins of equal size.
    share = (np.cumsum(weight[order]) - weight[order] / 2) / weight[order].sum()
    cuts = np.searchsorted(share, np.arange(1, num_bins) / num_bins)
    points = []
    for rows in np.split(order, cuts):
        if len(rows) == 0:
            continue
        mean = cluster_mean(right[rows], weight[rows], prompt[rows])
        low, high = wilson(mean.value, mean.standard_error, weight[rows])
        points.append((np.average(confidence[rows], weights=weight[rows]), mean.value, low, high))
    fit = isotonic_regression(right[order], weights=weight[order]).x
    middle, found, lower, upper = np.array(points).T
    return Reliability(middle, found, lower, upper, confidence[order], fit)


def wilson(share: float, error: float, weight: Floats) -> tuple[float, float]:
    """Return a 90% interval that stays inside [0, 1] even where every pair agrees.

    The effective number of pairs is the smaller of Kish's, for unequal weights, and the one that
    would give ``error``, the standard error over prompts.
    """
    count = weight.sum() ** 2 / (weight**2).sum()
    if error > 0:
        count = min(count, share * (1 - share) / error**2)
    spread = Z_90**2 / max(count, 1e-9)
    centre = (share + spread / 2) / (1 + spread)
    half = np.sqrt(spread * share * (1 - share) + spread**2 / 4) / (1 + spread)
    # The interval holds the share; rounding may miss that by an ulp, which errorbar refuses.
    return min(centre - half, share), max(centre + half, share)

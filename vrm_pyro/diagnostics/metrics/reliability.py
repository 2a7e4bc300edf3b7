"""Reliability curve: the share of pairs predicted right against the confidence (spec 4.6)."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from vrm_pyro.diagnostics.metrics.pair_metrics import RankedPairs, cluster_mean

Floats = NDArray[np.float64]

Z_90: Final = 1.645  # standard errors on each side of a 90% interval


class Reliability(NamedTuple):
    """Reliability of one model, by its confidence max(p, 1 - p).

    The Brier score is ``miscalibration - discrimination + uncertainty`` (the CORP decomposition
    of Dimitriadis, Gneiting and Jordan, 2021). Each pair counts in both orders, (p, c) and
    (1 - p, 1 - c), so the isotonic fit is at least 1/2 and ``uncertainty`` is 1/4.

    Attributes:
        bin_confidence: Mean confidence of each bin, rising, shape (B,).
        share: Share of its pairs that were predicted right, (B,).
        lower: Lower ends of 90% intervals of the shares over prompts, (B,).
        upper: Upper ends, (B,).
        confidence: Where the isotonic fit steps up, and the largest confidence, shape (steps,).
        fit: Isotonic fit of the share over all pairs from each of these on, (steps,).
        miscalibration: Part of the Brier score that the isotonic fit takes away.
        discrimination: How much lower than 1/4 the fit brings the Brier score.
        uncertainty: Brier score of p = 1/2.
    """

    bin_confidence: Floats
    share: Floats
    lower: Floats
    upper: Floats
    confidence: Floats
    fit: Floats
    miscalibration: float
    discrimination: float
    uncertainty: float = 0.25


def reliability_curve(
    p_first: NDArray[Any],
    preference: NDArray[Any],
    weight: NDArray[Any],
    prompt: NDArray[np.int64],
    num_bins: int = 10,
) -> Reliability:
    """Return bins of equal weight of the confidence, and the isotonic (PAVA) fit to all pairs.

    >>> import numpy as np
    >>> p, label = np.array([0.6, 0.4, 0.9, 0.9]), np.array([1.0, 1.0, 1.0, 1.0])
    >>> found = reliability_curve(p, label, np.ones(4), np.arange(4), num_bins=2)
    >>> found.bin_confidence, found.share
    (array([0.6, 0.9]), array([0.5, 1. ]))

    Args:
        p_first: Predicted probability that the first response is preferred, shape (N,).
        preference: Probability in [0, 1] that it was, shape (N,).
        weight: Weight of each pair, at least one positive, shape (N,).
        prompt: Prompt of each pair, shape (N,): the unit of the intervals.
        num_bins: Number of bins.
    """
    ranked, weight = RankedPairs(p_first, preference), np.asarray(weight, np.float64)
    place = np.where(weight > 0, ranked.bins(weight, num_bins)[ranked.level], -1)
    points = []
    for rows in (place == b for b in np.unique(place[place >= 0])):
        mean = cluster_mean(ranked.agreement[rows], weight[rows], prompt[rows])
        low, high = wilson(mean.value, mean.standard_error, weight[rows])
        confidence = np.average(ranked.confidence[ranked.level[rows]], weights=weight[rows])
        points.append((confidence, mean.value, low, high))
    mass, agree = ranked.masses(weight)
    used = mass > 0
    p, mass, agree = ranked.confidence[used], mass[used], agree[used]
    pooled = isotonic_regression(agree / mass, weights=mass)
    fit, steps = np.maximum(pooled.x, 0.5), np.append(pooled.blocks[:-1], len(p) - 1)

    def brier(q: NDArray[Any]) -> float:
        return float((agree * (1 - q) ** 2 + (mass - agree) * q**2).sum() / mass.sum())

    best = brier(fit)
    middle, share, lower, upper = np.array(points).T
    return Reliability(
        middle, share, lower, upper, p[steps], fit[steps], brier(p) - best, 0.25 - best
    )


def wilson(share: float, error: float, weight: Floats) -> tuple[float, float]:
    """Return a 90% interval that stays inside [0, 1] even where every pair agrees.

    The effective number of pairs is the smaller of Kish's, for unequal weights, and the one that
    would give ``error``, the standard error over prompts.

    >>> import numpy as np
    >>> [round(end, 2) for end in wilson(1.0, 0.0, np.ones(50))]
    [0.95, 1.0]
    """
    count = weight.sum() ** 2 / (weight**2).sum()
    if error > 0:
        count = min(count, share * (1 - share) / error**2)
    spread = Z_90**2 / max(count, 1e-9)
    centre = (share + spread / 2) / (1 + spread)
    half = np.sqrt(spread * share * (1 - share) + spread**2 / 4) / (1 + spread)
    # The interval holds the share; rounding may miss that by an ulp, which errorbar refuses.
    return float(min(centre - half, share)), float(max(centre + half, share))

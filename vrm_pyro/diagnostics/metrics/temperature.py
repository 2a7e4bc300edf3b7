"""Temperature scaling: the factor that makes an over- or underconfident model calibrated."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

LOWEST, HIGHEST = 1e-3, 1e3
"""Range of temperatures: on separable labels the best one is 0, without signal infinite."""


def temperature_scale(
    delta: NDArray[Any],
    preference: NDArray[Any],
    weight: NDArray[Any] | None = None,
) -> float:
    """Return the T that minimises the log loss of sigmoid(delta / T).

    The loss is convex in 1 / T, so its derivative has one root. Fit it on validation pairs, not
    on those a rate is then reported for.

    Args:
        delta: Reward difference, or the logit of any predicted probability, shape (N,).
        preference: Probability in [0, 1] that the first is preferred, shape (N,).
        weight: Weight of each pair; 1 when omitted.

    Returns:
        T > 0; 1e-3 for labels that ``delta`` separates, 1e3 where it says nothing or the opposite.

    >>> logit = np.full(4, 2.0)  # 88% confident, right on three of four
    >>> round(temperature_scale(logit, np.array([1.0, 1.0, 1.0, 0.0])), 2)
    1.82
    """
    delta = np.asarray(delta, dtype=np.float64)
    weight = np.ones_like(delta) if weight is None else np.asarray(weight, dtype=np.float64)

    def slope(log_inverse: float) -> float:
        inverse = np.exp(log_inverse)
        return float((weight * delta * (expit(inverse * delta) - preference)).sum())

    low, high = -np.log(HIGHEST), -np.log(LOWEST)
    if slope(low) >= 0:
        return HIGHEST
    if slope(high) <= 0:
        return LOWEST
    return float(np.exp(-brentq(slope, low, high, xtol=1e-10)))

"""Kullback-Leibler divergence kl(q || p) of Bernoulli distributions, and its upper inverse."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import rel_entr

# The last number below 1: where the root lies above it, 1 is the bound.
_BELOW_ONE = float(np.nextafter(1.0, 0.0))


def binary_kl(q: float | NDArray[Any], p: float | NDArray[Any]) -> NDArray[np.float64]:
    """Return kl(q || p) = q ln(q/p) + (1-q) ln((1-q)/(1-p)) in nats, elementwise.

    0 ln 0 is 0; infinite where p is 0 or 1 and q differs.

    Args:
        q: Probability in [0, 1].
        p: Probability in [0, 1].
    """
    q, p = np.asarray(q, dtype=np.float64), np.asarray(p, dtype=np.float64)
    return np.asarray(rel_entr(q, p) + rel_entr(1 - q, 1 - p))


def binary_kl_inverse(q: float, c: float) -> float:
    """Return kl^-1(q, c): the largest p in [q, 1] with kl(q || p) <= c.

    It turns "kl(observed || true) <= c" into an upper limit of the true risk. It increases
    with q and with c; kl^-1(q, 0) = q, kl^-1(1, c) = 1, kl^-1(0, c) = 1 - exp(-c).

    Args:
        q: Observed mean loss, in [0, 1].
        c: Nats, >= 0; infinite gives 1.

    Raises:
        ValueError: If q is not in [0, 1] or c is negative or NaN.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"binary_kl_inverse: q is {q}, but a mean loss lies in [0, 1].")
    if not c >= 0:
        raise ValueError(f"binary_kl_inverse: c is {c}, but must be >= 0.")
    if q == 1 or math.isinf(c):
        return 1.0
    if q == 0:
        return -math.expm1(-c)
    if c == 0:
        return float(q)

    if float(binary_kl(q, _BELOW_ONE)) <= c:
        return 1.0
    # Pinsker: 2 (p - q)^2 <= kl, so the root is at most q + sqrt(c / 2). A little more, since the
    # two meet where q = 1/2 and c is small.
    upper = min(q + 1.001 * math.sqrt(c / 2) + 1e-12, _BELOW_ONE)
    root = brentq(
        # Plain floats, not arrays: a root takes 50 evaluations.
        lambda p: q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p)) - c,
        q,
        upper,
        xtol=1e-16,
        rtol=4 * np.finfo(float).eps,
        maxiter=500,
    )
    return float(root)

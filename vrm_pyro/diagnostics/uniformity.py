"""Whether numbers are uniform on [0, 1]: an exact test, and a band that holds everywhere."""

import math
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import binom

Floats = NDArray[np.float64]

# Points at which the distribution function is looked at; more would see little more.
MAX_POINTS: Final = 50
# Bisections of the log of the local level of a band: to a thousandth.
STEPS: Final = 14


class Uniformity(NamedTuple):
    """The empirical distribution function of some numbers, and how far it is from the diagonal.

    Attributes:
        point: Where it is looked at, shape (points,).
        ecdf: Share of numbers up to each point, shape (points,).
        lower: Lower limit of the band, shape (points,): uniform numbers lie inside it at all
            points together with probability 1 - ``level``.
        upper: Upper limit, likewise.
        level: Probability of leaving the band.
        p_value: Probability that uniform numbers come as near to leaving some band of this kind.
    """

    point: Floats
    ecdf: Floats
    lower: Floats
    upper: Floats
    level: float
    p_value: float


def uniformity(values: Floats, level: float, num_points: int | None = None) -> Uniformity:
    """Compare independent numbers in [0, 1] with the uniform law (spec 4.5).

    The count of numbers up to a point is Binomial(n, point). The band gives each point an equal
    tail probability, small enough that all points hold together (Säilynoja, Bürkner and Vehtari,
    "Graphical test for discrete uniformity", 2022). The counts along the points are a Markov
    chain, so that probability is computed, not simulated: level and p-value are exact.

    Args:
        values: The numbers, shape (n,). Ranks 0..S among S draws become ``(rank + u) / (S + 1)``
            with uniform u.
        level: Probability of a false alarm.
        num_points: Points between 0 and 1; the smaller of n and 50 when omitted.

    Raises:
        ValueError: If there is no number, or one is outside [0, 1].
    """
    if len(values) == 0 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError("uniformity: give at least one number, all within [0, 1].")
    size = len(values)
    intervals = num_points or min(max(size, 2), MAX_POINTS)
    point = np.arange(1, intervals) / intervals
    count = np.searchsorted(np.sort(values), point, side="right")
    tail = np.minimum(binom.cdf(count, size, point), binom.sf(count - 1, size, point))
    # Inside: every count is more likely than the most unlikely one seen.
    p_value = 1 - _inside(size, point, float(tail.min()), strict=True)
    low, high = _band(size, intervals, level)
    return Uniformity(point, count / size, low / size, high / size, level, max(0.0, p_value))


@lru_cache(maxsize=64)
def _band(size: int, intervals: int, level: float) -> tuple[Floats, Floats]:
    """Return the least and the largest count inside the band, at ``k / intervals``."""
    point = np.arange(1, intervals) / intervals
    local = _local_level(size, point, level)
    low, high = _limits(size, point, local, strict=False)
    return low.astype(np.float64), high.astype(np.float64)


def _limits(
    size: int, point: Floats, tail: float, strict: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the least and the largest count whose tail probability is above ``tail``.

    Not ``strict``: at least ``tail``.
    """
    low = binom.ppf(tail, size, point).astype(np.int64)
    high = binom.isf(tail, size, point).astype(np.int64)
    # Quantiles of a discrete law are off by one now and then: settle it with the tails themselves.
    slack = 1e-12 * tail

    def kept(probability: Floats) -> NDArray[np.bool_]:
        return probability > tail + slack if strict else probability >= tail - slack

    for _ in range(3):
        low = np.where((low < size) & ~kept(binom.cdf(low, size, point)), low + 1, low)
        low = np.where((low > 0) & kept(binom.cdf(low - 1, size, point)), low - 1, low)
        high = np.where((high > 0) & ~kept(binom.sf(high - 1, size, point)), high - 1, high)
        high = np.where((high < size) & kept(binom.sf(high, size, point)), high + 1, high)
    return low, high


def _inside(size: int, point: Floats, tail: float, strict: bool) -> float:
    """Return the probability that uniform counts stay within the limits at all points."""
    low, high = _limits(size, point, tail, strict)
    if (low > high).any():
        return 0.0
    log_factorial = gammaln(np.arange(size + 1) + 1.0)
    before, mass = np.zeros(1, np.int64), np.ones(1)
    last = 0.0
    for p, least, most in zip(point, low, high, strict=True):
        now = np.arange(least, most + 1)
        rest = size - before
        step = now[:, None] - before[None, :]
        stay = size - now
        chance = (p - last) / (1 - last)
        # Binomial(rest, chance) at step; scipy's own is slow for so many small tables.
        log_pmf = (
            log_factorial[rest][None, :]
            - log_factorial[np.maximum(step, 0)]
            - log_factorial[stay][:, None]
            + step * math.log(chance)
            + stay[:, None] * math.log1p(-chance)
        )
        move = np.where(step >= 0, np.exp(np.where(step >= 0, log_pmf, 0.0)), 0.0)
        mass, before, last = move @ mass, now, float(p)
    return float(mass.sum())


def _local_level(size: int, point: Floats, level: float) -> float:
    """Return the largest tail probability of a point at which the band holds ``1 - level``."""
    low, high = math.log(level / (4 * len(point))), math.log(level / 2)
    for _ in range(STEPS):
        middle = (low + high) / 2
        if _inside(size, point, math.exp(middle), strict=False) >= 1 - level:
            low = middle
        else:
            high = middle
    return math.exp(low)

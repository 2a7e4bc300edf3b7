"""Test that numbers are uniform on [0, 1], with a simultaneous band (spec 4.5)."""

import math
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

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
    """Compare independent numbers in [0, 1] with the uniform distribution (spec 4.5).

    The count of numbers up to a point is Binomial(n, point). The band gives each point an equal
    tail probability, small enough that all points hold together (Säilynoja, Bürkner and Vehtari,
    "Graphical test for discrete uniformity", 2022). The counts along the points are a Markov
    chain, so that probability is computed, not simulated: level and p-value are exact.

    >>> uniformity(np.linspace(0.01, 0.99, 50), level=0.05).p_value > 0.5
    True
    >>> uniformity(np.linspace(0.41, 0.59, 50), level=0.05).p_value < 0.001
    True

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
    tails = _tails(size, intervals)
    count = np.searchsorted(np.sort(values), tails.point, side="right")
    here = np.arange(len(count))
    tail = np.minimum(tails.below[count, here], tails.above[count, here])
    # Inside: every count is more likely than the most unlikely one seen.
    p_value = 1 - _inside(tails, float(tail.min()), strict=True)
    low, high = _band(size, intervals, level)
    return Uniformity(tails.point, count / size, low / size, high / size, level, max(0.0, p_value))


class _Tails(NamedTuple):
    """Points, and P(count <= k) and P(count >= k) at each, shape (n + 1, points)."""

    point: Floats
    below: Floats
    above: Floats

    @property
    def size(self) -> int:
        return len(self.below) - 1


@lru_cache(maxsize=16)
def _tails(size: int, intervals: int) -> _Tails:
    point = np.arange(1, intervals) / intervals
    k = np.arange(size + 1)[:, None]
    choose = gammaln(size + 1) - gammaln(k + 1) - gammaln(size - k + 1)
    mass = np.exp(choose + k * np.log(point) + (size - k) * np.log1p(-point))
    # Summed from the far end, so that small tails keep their digits.
    above = np.cumsum(mass[::-1], axis=0)[::-1]
    return _Tails(point, np.cumsum(mass, axis=0), above)


@lru_cache(maxsize=64)
def _band(size: int, intervals: int, level: float) -> tuple[Floats, Floats]:
    """Return the least and the largest count inside the band, at ``k / intervals``."""
    tails = _tails(size, intervals)
    low, high = math.log(level / (4 * intervals)), math.log(level / 2)
    for _ in range(STEPS):  # the largest tail probability of a point at which the band holds
        middle = (low + high) / 2
        if _inside(tails, math.exp(middle), strict=False) >= 1 - level:
            low = middle
        else:
            high = middle
    least, most = _limits(tails, math.exp(low), strict=False)
    return least.astype(np.float64), most.astype(np.float64)


def _limits(
    tails: _Tails, tail: float, strict: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the least and the largest count whose tail probability is above ``tail``.

    Not ``strict``: at least ``tail``.
    """
    slack = 1e-9 * tail  # rounding must not move what is equal
    bound = tail + slack if strict else tail - slack
    low = (tails.below <= bound).sum(0)
    high = (tails.above > bound).sum(0) - 1
    return low, high


def _inside(tails: _Tails, tail: float, strict: bool) -> float:
    """Return the probability that uniform counts stay within the limits at all points."""
    size = tails.size
    low, high = _limits(tails, tail, strict)
    if (low > high).any():
        return 0.0
    log_factorial = gammaln(np.arange(size + 1) + 1.0)
    before, mass = np.zeros(1, np.int64), np.ones(1)
    last = 0.0
    for p, least, most in zip(tails.point, low, high, strict=True):
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

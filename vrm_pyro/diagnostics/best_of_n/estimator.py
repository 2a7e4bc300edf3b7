"""Unbiased estimate of the gold reward of the best of n, for all n at once."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]


def expected_best(score: Floats, gold: Floats, max_n: int) -> Floats:
    """Return the expected gold reward of the candidate with the highest score among n, (max_n,).

    The expectation is over all subsets of n of the N candidates, so it is unbiased for n fresh
    candidates whose scores do not depend on each other: with scores in rising order, candidate i
    is the best of a subset with probability C(i - 1, n - 1) / C(N, n). Equal scores share what is
    theirs: one of them is taken at random.

    >>> expected_best(np.array([1.0, 2.0, 3.0]), np.array([0.0, 3.0, 6.0]), 3)
    array([3., 5., 6.])

    Source: the estimator of pass@k and of best-of-n curves (Stiennon et al. 2020, Nakano et al.
    2021).

    Args:
        score: Score of each candidate, (N,), by which one is chosen.
        gold: Its gold reward, (N,).
        max_n: Largest n, at most N.
    """
    levels, level = np.unique(score, return_inverse=True)
    mean = np.bincount(level, gold) / np.bincount(level)
    return _weights(len(score))[:max_n] @ mean[level][np.argsort(score, kind="stable")]


@lru_cache(maxsize=256)
def _weights(count: int) -> Floats:
    """Return the probability that candidate i in rising order is the best of n, (N, N)."""
    n = np.arange(1, count + 1)[:, None]
    i = np.arange(1, count + 1)[None, :]
    with np.errstate(invalid="ignore"):
        log = _log_choose(i - 1, n - 1) - _log_choose(np.full_like(n, count), n)
    return np.where(i >= n, np.exp(np.where(i >= n, log, 0.0)), 0.0)


def _log_choose(n: NDArray[np.int64], k: NDArray[np.int64]) -> Floats:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(np.maximum(n - k, 0) + 1))


def surest_mean(sureness: Floats, values: Floats, weight: Floats, coverage: Floats) -> Floats:
    """Return the mean of values over the surest shares of the weight, (C,).

    A level of sureness that the cut runs through counts in part.

    >>> one = np.ones(4)
    >>> surest_mean(np.arange(4.0), np.array([0.0, 1, 2, 3]), one, np.array([0.5, 1.0]))
    array([2.5, 1.5])

    Args:
        sureness: How sure a choice is, (P,).
        values: What is averaged, (P,).
        weight: Weight of each, >= 0, (P,).
        coverage: Shares in (0, 1], (C,).
    """
    levels, level = np.unique(-sureness, return_inverse=True)
    mass = np.bincount(level, weight, len(levels))
    sums = np.bincount(level, weight * values, len(levels))
    covered = mass.sum() * coverage
    room = covered[:, None] - (np.cumsum(mass) - mass)
    share = np.clip(np.divide(room, mass, out=np.zeros_like(room), where=mass > 0), 0, 1)
    return np.asarray((share * sums).sum(1) / covered)

"""Tests that moments are zero, with the prompt as the independent unit."""

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

MIN_PROMPTS: Final = 20
"""With fewer prompts the p-values would be unreliable, and no test is made."""


class MeanTest(NamedTuple):
    """A mean over prompts against a given value.

    Attributes:
        value: The mean.
        standard_error: Its standard error over prompts; NaN for a single prompt.
        p_value: Two-sided, by Student's t; NaN below 20 prompts or without any spread.
        p_above: One-sided: small where the mean is above the value.
        p_below: One-sided: small where the mean is below it.
        num_prompts: Number of prompts.
    """

    value: float
    standard_error: float
    p_value: float
    p_above: float
    p_below: float
    num_prompts: int


def mean_test(values: Floats, null: float = 0.0) -> MeanTest:
    """Test the mean of independent values, one a prompt, by Student's t.

    >>> found = mean_test(np.linspace(-0.5, 1.5, 40))
    >>> round(found.value, 3), round(found.standard_error, 3), found.p_value < 0.01
    (0.5, 0.095, True)

    Args:
        values: Shape (P,).
        null: What the mean is compared with.
    """
    size = len(values)
    mean = float(values.mean()) if size else math.nan
    error = float(values.std(ddof=1) / math.sqrt(size)) if size > 1 else math.nan
    if size < MIN_PROMPTS or not error > 0:
        return MeanTest(mean, error, math.nan, math.nan, math.nan, size)
    t = (mean - null) / error
    above, below = float(stats.t.sf(t, size - 1)), float(stats.t.cdf(t, size - 1))
    return MeanTest(mean, error, min(1.0, 2 * min(above, below)), above, below, size)


def prompt_sums(values: NDArray[Any], prompt: NDArray[Any]) -> Floats:
    """Return the sums of values (N, ...) over the rows of each prompt, (prompts, ...).

    >>> prompt_sums(np.array([1.0, 2.0, 4.0]), np.array([0, 0, 7]))
    array([3., 4.])
    """
    groups, inverse = np.unique(prompt, return_inverse=True)
    sums = np.zeros((len(groups), *values.shape[1:]))
    np.add.at(sums, inverse, np.asarray(values, np.float64))
    return sums


def residuals_vanish(
    direction: Floats, residual: Floats, p_first: Floats, prompt: NDArray[Any]
) -> float:
    """Return the p-value of a score test: label minus prediction is unrelated to directions.

    If predictions are calibrated, U = sum of direction times residual has mean 0 and variance
    sum p (1 - p) direction direction', plus the covariance of residuals of one prompt. This is
    the variance under the null hypothesis, not the observed one: confident predictions that all
    come true have tiny residuals of one sign, and nothing is wrong with that.

    Args:
        direction: Known before the labels, with the weight of the pair in it, shape (N, k).
        residual: c - p, shape (N,).
        p_first: p, shape (N,).
        prompt: Prompt of each pair, shape (N,).

    Returns:
        The p-value; NaN where there are fewer than 20 prompts, or 5 for each direction.
    """
    groups = len(np.unique(prompt))
    if groups < max(MIN_PROMPTS, 5 * direction.shape[1]):
        return math.nan
    whitened = _whitened(direction, residual, p_first, prompt)
    if len(whitened) == 0:
        return math.nan
    return float(stats.chi2.sf((whitened**2).sum(), len(whitened)))


def residual_z(
    direction: Floats, residual: Floats, p_first: Floats, prompt: NDArray[Any]
) -> float:
    """Return the score of one direction (N,) in standard errors; NaN as above."""
    if len(np.unique(prompt)) < MIN_PROMPTS:
        return math.nan
    whitened = _whitened(direction[:, None], residual, p_first, prompt)
    return float(whitened[0]) if len(whitened) else math.nan


# Least variance of a direction, in parts of that of independent residuals: the part that the
# residuals of one prompt share is an estimate, and may be off below zero.
LEAST_VARIANCE: Final = 0.2


def _whitened(
    direction: Floats, residual: Floats, p_first: Floats, prompt: NDArray[Any]
) -> Floats:
    """Return the scores as independent standard Normals, one for each direction that counts."""
    scale = np.sqrt((direction**2).mean(0))
    direction = direction[:, scale > 0] / scale[scale > 0]
    if direction.shape[1] == 0:
        return np.zeros(0)
    scores = direction * residual[:, None]
    sums = prompt_sums(scores, prompt)
    alone = (direction * (p_first * (1 - p_first))[:, None]).T @ direction
    shared = sums.T @ sums - scores.T @ scores
    values, vectors = np.linalg.eigh(alone)
    kept = values > 1e-9 * max(values[-1], 1e-300)
    if not kept.any() or not values[-1] > 0:
        return np.zeros(0)
    basis = vectors[:, kept] / np.sqrt(values[kept])
    spread, axes = np.linalg.eigh(np.eye(int(kept.sum())) + basis.T @ shared @ basis)
    found = axes.T @ (basis.T @ sums.sum(0)) / np.sqrt(np.maximum(spread, LEAST_VARIANCE))
    # One direction keeps its sign.
    if direction.shape[1] == 1:
        return np.sign(sums.sum(0)) * np.abs(found)
    return np.asarray(found)

"""Tests that moments are zero, with the prompt as the independent unit."""

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

MIN_PROMPTS: Final = 20
"""Below so many prompts the laws of the tests are not to be trusted, and none is made."""


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
    """Return the sums of values (N, ...) over the rows of each prompt, (prompts, ...)."""
    groups, inverse = np.unique(prompt, return_inverse=True)
    sums = np.zeros((len(groups), *values.shape[1:]))
    np.add.at(sums, inverse, np.asarray(values, np.float64))
    return sums


def moments_vanish(moments: Floats, prompt: NDArray[Any]) -> float:
    """Return the p-value of all moments being zero together (Hotelling's T squared).

    With m_g the sums of prompt g, T^2 = G mean(m)' S^-1 mean(m), and T^2 (G - k) / (k (G - 1)) is
    F(k, G - k): exact for Normal sums, else as good as the central limit theorem. Moments that
    are linear combinations of others do not count.

    Args:
        moments: Value of each moment at each row, shape (N, k).
        prompt: Prompt of each row, shape (N,). Rows of one prompt may depend on each other.

    Returns:
        The p-value; NaN where there are fewer than 20 prompts, or 5 for each moment.
    """
    sums = prompt_sums(moments, prompt)
    size = len(sums)
    spread = sums.std(0)
    sums = sums[:, spread > 1e-12 * max(1e-300, spread.max(initial=0.0))]
    if sums.shape[1] == 0 or size < max(MIN_PROMPTS, 5 * sums.shape[1]):
        return math.nan
    sums = sums / sums.std(0)
    mean, covariance = sums.mean(0), np.atleast_2d(np.cov(sums, rowvar=False))
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-9 * values[-1]
    rank = int(kept.sum())
    statistic = size * float((((mean @ vectors)[kept] ** 2) / values[kept]).sum())
    return float(stats.f.sf(statistic * (size - rank) / (rank * (size - 1)), rank, size - rank))

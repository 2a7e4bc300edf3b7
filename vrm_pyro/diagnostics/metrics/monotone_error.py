"""Whether the error rate falls with the model's confidence: isotonic fit, permutation test."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from vrm_pyro.diagnostics.metrics.pair_metrics import accuracy_values

NUM_PERMUTATIONS = 4999
# Sums in another order differ by rounding; a permutation that changes nothing must count as equal.
_SLACK = 1e-9


class MonotoneError(NamedTuple):
    """Error rate as a falling function of confidence, tested against a constant.

    Attributes:
        confidence: The distinct confidences, ascending, shape (L,).
        error_rate: Fitted error rate at each, never rising, shape (L,).
        explained: Share of the variance of the errors that the fit explains, in [0, 1].
        p_value: Probability of as large a share if errors had nothing to do with confidence.
        num_permutations: How many permutations it was taken from; it is at least one over one
            more than that.
    """

    confidence: NDArray[np.float64]
    error_rate: NDArray[np.float64]
    explained: float
    p_value: float
    num_permutations: int


def monotone_error(
    p_first: NDArray[Any],
    preference: NDArray[Any],
    prompt: NDArray[Any],
    num_permutations: int = NUM_PERMUTATIONS,
    seed: int = 0,
) -> MonotoneError:
    """Fit a falling error rate to the confidence max(p, 1 - p) and test it against a constant.

    The fit is the least-squares isotonic regression; the statistic is the share of variance that
    it explains, the likelihood-ratio statistic of ordered means. A small p-value says that errors
    become rarer somewhere along the confidence, not that they do so everywhere.

    The unit is the prompt: its pairs share responses and difficulty, so their errors come and go
    together. A permutation gives each prompt the errors of another one with as many pairs, all of
    them and in their order. If errors do not depend on confidence and prompts are independent,
    the test is exact, whatever goes on within a prompt. A prompt that is alone with its number of
    pairs keeps its errors, which costs power only.

    >>> p, label = np.array([0.6, 0.6, 0.9, 0.9]), np.array([0.0, 1.0, 1.0, 1.0])
    >>> found = monotone_error(p, label, np.arange(4), num_permutations=99)
    >>> found.confidence, found.error_rate
    (array([0.6, 0.9]), array([0.5, 0. ]))

    Args:
        p_first: Predicted probability that the first response is preferred, shape (N,).
        preference: Probability in [0, 1] that it was, shape (N,).
        prompt: Prompt of each pair, any integers, shape (N,).
        num_permutations: Random permutations, besides the data themselves.
        seed: Fixes them.

    Raises:
        ValueError: If there is no pair, the arrays differ in length, or a probability is NaN or
            outside [0, 1].
    """
    p = np.asarray(p_first, dtype=np.float64)
    if not 0 < len(p) == len(preference) == len(prompt):
        raise ValueError(
            f"monotone_error: {len(p)} probabilities, {len(preference)} preferences, "
            f"{len(prompt)} prompts; each pair needs one of each, and one pair is the least."
        )
    if not ((p >= 0) & (p <= 1)).all():
        bad = np.flatnonzero(~((p >= 0) & (p <= 1)))[0]
        raise ValueError(f"monotone_error: p_first of pair {bad} is {p[bad]}.")
    error = 1 - accuracy_values(p, np.asarray(preference, dtype=np.float64))
    # Rounded: 1 - (1 - p) is not quite p, and the order of the responses must not matter.
    rounded: NDArray[Any] = np.round(np.maximum(p, 1 - p), 12)
    confidence, level = np.unique(rounded, return_inverse=True)
    count = np.bincount(level).astype(np.float64)
    scatter = float(((error - error.mean()) ** 2).sum())

    def fit(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        means = np.bincount(level, values) / count
        fitted = isotonic_regression(means, weights=count, increasing=False).x
        explained = float((count * (fitted - values.mean()) ** 2).sum())
        return fitted, explained / scatter if scatter > 0 else 0.0

    fitted, explained = fit(error)
    blocks = _blocks(np.asarray(prompt))
    rng = np.random.default_rng(seed)
    as_large = 0
    for _ in range(num_permutations):
        permuted = np.empty_like(error)
        for rows in blocks:
            permuted[rows] = error[rng.permutation(rows)]
        as_large += fit(permuted)[1] >= explained - _SLACK
    return MonotoneError(
        confidence,
        fitted,
        explained,
        (1 + as_large) / (1 + num_permutations),
        num_permutations,
    )


def _blocks(prompt: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Return, for each number of pairs, the pairs of its prompts, shape (prompts, pairs)."""
    _, inverse, sizes = np.unique(prompt, return_inverse=True, return_counts=True)
    starts = np.cumsum(sizes) - sizes
    order = np.argsort(inverse, kind="stable")
    return [order[starts[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes)]

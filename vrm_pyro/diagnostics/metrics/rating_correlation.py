"""Correlation of predicted scores with ratings that the model has not seen."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.diagnostics.metrics.bootstrap import Difference

Floats = NDArray[Any]
NUM_DRAWS = 2000


class Correlation(NamedTuple):
    """A correlation over responses, with its uncertainty over prompts.

    Attributes:
        value: Pearson's r; NaN where either side does not vary or nothing is rated.
        standard_error: Standard deviation over draws of prompts.
        lower: Lower limit: r is above it with confidence ``level`` (one-sided).
        upper: Upper limit, likewise.
        num_ratings: Responses that are rated.
    """

    value: float
    standard_error: float
    lower: float
    upper: float
    num_ratings: int


def rating_correlations(
    scores: Floats,
    ratings: Floats,
    prompt: NDArray[Any],
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    level: float = 0.9,
) -> list[Correlation]:
    """Return Pearson's r of predicted scores and ratings, one for each objective.

    >>> scores = np.array([[0.1], [0.2], [0.3], [0.4]])
    >>> ratings = np.array([[1.0], [2.0], [3.0], [np.nan]])
    >>> (found,) = rating_correlations(scores, ratings, np.arange(4), num_draws=50)
    >>> round(found.value, 3), found.num_ratings
    (1.0, 3)

    Args:
        scores: Predictions, in any unit, shape (R, K).
        ratings: Ratings of the same responses, NaN where missing, shape (R, K).
        prompt: Prompt of each response, any integers, shape (R,).
        num_draws: Bootstrap draws of the prompts; responses to one prompt are dependent.
        seed: Fixes them.
        level: Confidence of each one-sided limit.

    Raises:
        ValueError: If the shapes differ.
    """
    whole, draws = _bootstrapped(scores, ratings, prompt, num_draws, seed)
    found = []
    for k, value in enumerate(whole):
        usable = draws[:, k][np.isfinite(draws[:, k])]
        count = int((~np.isnan(ratings[:, k])).sum())
        if not np.isfinite(value) or len(usable) < 2:
            found.append(Correlation(float(value), np.nan, np.nan, np.nan, count))
            continue
        lower, upper = np.quantile(usable, [1 - level, level])
        error = float(usable.std(ddof=1))
        found.append(Correlation(float(value), error, float(lower), float(upper), count))
    return found


def correlation_difference(
    scores_a: Floats,
    scores_b: Floats,
    ratings: Floats,
    prompt: NDArray[Any],
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    level: float = 0.9,
) -> Difference:
    """Compare two predictions by their mean r over objectives, on the same draws of prompts.

    Args:
        scores_a: Predictions of the first, shape (R, K).
        scores_b: Of the second.
        ratings: As in :func:`rating_correlations`.
        prompt: Likewise.
        num_draws: Number of bootstrap data sets.
        seed: Fixes them.
        level: Confidence of each one-sided limit.

    Raises:
        ValueError: If the shapes differ, or no objective has an r on both sides.
    """
    whole_a, draws_a = _bootstrapped(scores_a, ratings, prompt, num_draws, seed)
    whole_b, draws_b = _bootstrapped(scores_b, ratings, prompt, num_draws, seed)
    both = np.isfinite(whole_a) & np.isfinite(whole_b)
    if not both.any():
        raise ValueError("correlation_difference: no objective varies in scores and ratings.")
    draws = np.nanmean(draws_a[:, both] - draws_b[:, both], axis=1)
    return Difference.of_draws(float((whole_a - whole_b)[both].mean()), draws, level)


def _bootstrapped(
    scores: Floats, ratings: Floats, prompt: NDArray[Any], num_draws: int, seed: int
) -> tuple[Floats, Floats]:
    """Return r of each objective, (K,), and on every draw of prompts, (draws, K)."""
    if scores.shape != ratings.shape or len(prompt) != len(ratings):
        raise ValueError(
            f"scores {scores.shape}, ratings {ratings.shape} and {len(prompt)} prompts differ."
        )
    seen = ~np.isnan(ratings)
    groups, place = np.unique(prompt, return_inverse=True)
    # Centred first, else sums of squares cancel; r does not mind.
    x = np.where(seen, scores - _mean(scores, seen), 0.0)
    y = np.where(seen, ratings - _mean(ratings, seen), 0.0)
    # Sums per prompt are all that r needs: one matrix product instead of a loop over draws.
    sums = np.zeros((6, len(groups), ratings.shape[1]))
    for total, values in zip(sums, (seen, x, y, x * x, y * y, x * y), strict=True):
        np.add.at(total, place, values)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=num_draws)
    return _pearson(sums.sum(1)), _pearson(np.einsum("bg,mgk->mbk", counts, sums))


def _mean(values: Floats, seen: NDArray[np.bool_]) -> Floats:
    count = np.maximum(seen.sum(0), 1)
    return np.asarray(np.where(seen, values, 0.0).sum(0) / count)


def _pearson(sums: Floats) -> Floats:
    count, x, y, xx, yy, xy = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(np.maximum(xx - x * x / count, 0) * np.maximum(yy - y * y / count, 0))
        # A spread that is rounding of the sums is none.
        tiny = 1e-12 * np.maximum(np.sqrt(xx * yy), 1e-300)
        return np.where(spread > tiny, (xy - x * y / count) / spread, np.nan)

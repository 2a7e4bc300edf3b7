"""Resampling of prompts: standard errors and intervals where no formula is at hand."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

NUM_DRAWS = 500
"""Bootstrap draws: the standard error itself is then right to about 3%."""

Statistic = Callable[[NDArray[Any]], float]


class Difference(NamedTuple):
    """A difference of two models on the same pairs, with its uncertainty over prompts.

    Attributes:
        difference: First minus second.
        standard_error: Standard deviation over the bootstrap draws.
        lower: Lower limit: the difference is above it with confidence ``level`` (one-sided).
        upper: Upper limit, likewise.
        level: Confidence of each limit taken alone; the two together cover 2 ``level`` - 1.
    """

    difference: float
    standard_error: float
    lower: float
    upper: float
    level: float

    @classmethod
    def of_draws(cls, difference: float, draws: NDArray[Any], level: float) -> "Difference":
        """Return a difference with the spread of its bootstrap draws, shape (draws,)."""
        lower, upper = np.quantile(draws, [1 - level, level])
        return cls(difference, float(draws.std(ddof=1)), float(lower), float(upper), level)


def prompt_bootstrap(
    statistic: Statistic | Callable[[NDArray[Any]], NDArray[np.float64]],
    weight: NDArray[Any],
    prompt: NDArray[Any],
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> NDArray[Any]:
    """Return a statistic on data sets made by drawing prompts with replacement, (draws, ...).

    Prompts, not pairs: pairs of a prompt share w, responses and difficulty, and drawing single
    pairs would understate the uncertainty.

    >>> draws = prompt_bootstrap(np.sum, np.ones(6), np.array([0, 0, 1, 1, 2, 2]), num_draws=4)
    >>> draws  # three prompts of two pairs each are drawn every time
    array([6., 6., 6., 6.])

    Args:
        statistic: Takes the weight of each pair, (N,), which is ``weight`` times how often its
            prompt was drawn; returns a number, or several as an array.
        weight: Weight of each pair, shape (N,).
        prompt: Prompt of each pair, any integers, shape (N,).
        num_draws: Number of bootstrap data sets.
        seed: Fixes them. The same seed draws the same prompts, so two calls are paired.
    """
    groups, inverse = np.unique(prompt, return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=num_draws)
    return np.array([statistic(weight * count[inverse]) for count in counts])


def paired_statistic(
    statistic_a: Statistic,
    statistic_b: Statistic,
    weight: NDArray[Any],
    prompt: NDArray[Any],
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    level: float = 0.9,
) -> Difference:
    """Compare a statistic of two models on the same bootstrap draws of the prompts.

    Args:
        statistic_a: As in :func:`prompt_bootstrap`, on the first model.
        statistic_b: The same on the second.
        weight: Weight of each pair, shape (N,).
        prompt: Prompt of each pair, shape (N,).
        num_draws: Number of bootstrap data sets.
        seed: Fixes them.
        level: Confidence of each one-sided limit.
    """
    draws = prompt_bootstrap(
        lambda w: statistic_a(w) - statistic_b(w), weight, prompt, num_draws, seed
    )
    return Difference.of_draws(statistic_a(weight) - statistic_b(weight), draws, level)


def paired_bootstrap(
    values_a: NDArray[Any],
    values_b: NDArray[Any],
    prompt: NDArray[Any],
    num_draws: int = 2000,
    seed: int = 0,
    weight: NDArray[Any] | None = None,
    level: float = 0.9,
) -> Difference:
    """Compare the mean of a quantity of each pair, such as its log loss, between two models.

    >>> found = paired_bootstrap(np.array([0.5, 0.7]), np.array([0.4, 0.6]), np.arange(2))
    >>> round(found.difference, 3), round(found.lower, 3)
    (0.1, 0.1)

    Args:
        values_a: Values under the first model, shape (N,).
        values_b: Values of the same pairs under the second.
        prompt: Prompt of each pair, shape (N,).
        num_draws: Number of bootstrap data sets.
        seed: Fixes them.
        weight: Weight of each pair; 1 when omitted.
        level: Confidence of each one-sided limit.

    Returns:
        Weighted mean of ``values_a - values_b`` over pairs, with limits.

    Raises:
        ValueError: If the arrays do not describe the same pairs.
    """
    weight = np.ones(len(values_a)) if weight is None else np.asarray(weight, dtype=np.float64)
    gap = np.asarray(values_a, dtype=np.float64) - np.asarray(values_b, dtype=np.float64)
    if not len(gap) == len(prompt) == len(weight):
        raise ValueError(
            f"paired_bootstrap: {len(gap)} values, {len(prompt)} prompts, {len(weight)} weights; "
            "each pair needs one of each."
        )
    # Sums per prompt are all the mean needs: one matrix product instead of a loop over draws.
    groups, inverse = np.unique(prompt, return_inverse=True)
    sums = np.bincount(inverse, weight * gap)
    masses = np.bincount(inverse, weight)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=num_draws)
    draws: NDArray[Any] = (counts @ sums) / (counts @ masses)
    return Difference.of_draws(float(sums.sum() / masses.sum()), draws, level)

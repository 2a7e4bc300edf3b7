"""Losses of pairs, and their means within prompts, the units of every certificate."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.diagnostics.metrics.pair_metrics import accuracy_values, brier_values

Losses = NDArray[np.float64]


def error_values(p_first: NDArray[Any], preference: NDArray[Any]) -> Losses:
    """Return the probability that the label contradicts the sign of p(first) - 1/2; ties 1/2."""
    return 1.0 - accuracy_values(np.asarray(p_first, np.float64), preference)


def score_values(p_first: NDArray[Any], preference: NDArray[Any]) -> Losses:
    """Return the Brier score of each pair, in [0, 1]."""
    # Quadrature weights in float32 can sum to slightly more than 1.
    return brier_values(np.asarray(p_first, np.float64).clip(0, 1), preference)


# Already in [0, 1], as every bound here needs.
LOSSES: Final[Mapping[str, Callable[[NDArray[Any], NDArray[Any]], Losses]]] = {
    "error": error_values,
    "brier": score_values,
}


def prompt_means(values: NDArray[Any], weight: NDArray[Any], prompt: NDArray[np.int64]) -> Losses:
    """Return the weighted mean of each prompt with a pair of positive weight, by prompt number.

    Pairs of a prompt share w, responses and difficulty, so a prompt is one unit.

    Args:
        values: A number for each pair, shape (N,).
        weight: Weight of each pair, >= 0, shape (N,).
        prompt: Prompt of each pair, shape (N,).

    Returns:
        Means, shape (prompts with positive weight,).
    """
    weight = np.asarray(weight, dtype=np.float64)
    mass = np.bincount(prompt, weight)
    sums = np.bincount(prompt, weight * values)
    return sums[mass > 0] / mass[mass > 0]


def one_pair_each(weight: NDArray[Any], prompt: NDArray[np.int64]) -> bool:
    """Whether no prompt has two pairs of positive weight."""
    return bool((np.bincount(prompt, np.asarray(weight) > 0) <= 1).all())

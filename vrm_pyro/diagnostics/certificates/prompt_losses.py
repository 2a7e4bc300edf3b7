"""Losses of pairs, and their mean inside each prompt: the unit of every certificate."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.diagnostics.metrics.pair_metrics import accuracy_values, brier_values

Losses = NDArray[np.float64]


def error_values(p_first: NDArray[Any], preference: NDArray[Any]) -> Losses:
    """Return the probability that the label is not on the side of p(first) - 1/2; ties 1/2."""
    return 1.0 - accuracy_values(np.asarray(p_first, np.float64), preference)


def score_values(p_first: NDArray[Any], preference: NDArray[Any]) -> Losses:
    """Return the Brier score of each pair, in [0, 1]."""
    # Weights of a quadrature in float32 can add up to a little more than 1.
    return brier_values(np.asarray(p_first, np.float64).clip(0, 1), preference)


# In [0, 1] as they are, which every bound here needs.
LOSSES: Final[Mapping[str, Callable[[NDArray[Any], NDArray[Any]], Losses]]] = {
    "error": error_values,
    "brier": score_values,
}


def prompt_means(values: NDArray[Any], weight: NDArray[Any], prompt: NDArray[np.int64]) -> Losses:
    """Return the weighted mean inside each prompt with a pair that counts, by prompt number.

    Pairs of a prompt share w, responses and difficulty: they are one unit, not several.

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
    """Whether no prompt has a second pair that counts."""
    return bool((np.bincount(prompt, np.asarray(weight) > 0) <= 1).all())

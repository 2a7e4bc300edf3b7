"""Accuracy on the pairs a model is surest of, for every share of them that is answered."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.diagnostics.metrics.bootstrap import prompt_bootstrap
from vrm_pyro.diagnostics.metrics.pair_metrics import surest_accuracies

Floats = NDArray[np.float64]

NUM_DRAWS = 200


class SelectiveAccuracy(NamedTuple):
    """Accuracy by coverage, with 90% intervals over prompts.

    Attributes:
        coverage: Share of the weight that is answered, in (0, 1], shape (C,).
        accuracy: Accuracy on that share, the surest pairs, (C,).
        lower: Lower ends, bootstrapped over prompts, (C,); NaN where one prompt is all there is.
        upper: Upper ends, likewise.
    """

    coverage: Floats
    accuracy: Floats
    lower: Floats
    upper: Floats


def selective_accuracy(
    p_first: NDArray[Any],
    preference: NDArray[Any],
    weight: NDArray[Any],
    prompt: NDArray[Any],
    coverage: Floats,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> SelectiveAccuracy:
    """Return the accuracy when only the surest pairs are answered.

    Pairs are ranked by max(p, 1 - p); a level of confidence that the cut runs through counts in
    part. The cut moves with each bootstrap sample, as it would with new data.

    >>> p, label = np.array([0.9, 0.8, 0.7, 0.6]), np.array([1.0, 1.0, 1.0, 0.0])
    >>> selective_accuracy(p, label, np.ones(4), np.arange(4), np.array([0.5, 1.0])).accuracy
    array([1.  , 0.75])

    Args:
        p_first: Predicted probability that the first response is preferred, shape (N,).
        preference: Probability in [0, 1] that it was, shape (N,).
        weight: Weight of each pair, >= 0, shape (N,).
        prompt: Prompt of each pair, shape (N,).
        coverage: Shares to answer, in (0, 1], shape (C,).
        num_draws: Bootstrap draws.
        seed: Fixes them.
    """
    curve = surest_accuracies(p_first, preference, coverage)
    found = curve(np.asarray(weight, dtype=np.float64))
    if len(np.unique(prompt[weight > 0])) < 2:
        unknown = np.full(len(coverage), np.nan)
        return SelectiveAccuracy(coverage, found, unknown, unknown)
    draws = prompt_bootstrap(curve, weight, prompt, num_draws, seed)
    lower, upper = np.nanquantile(draws, [0.05, 0.95], axis=0)
    return SelectiveAccuracy(coverage, found, lower, upper)

"""How well a score tells two groups of pairs apart: the area under the ROC curve."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.diagnostics.metrics.bootstrap import NUM_DRAWS, prompt_bootstrap
from vrm_pyro.diagnostics.metrics.pair_metrics import Estimate


def auroc(
    score: NDArray[Any], positive: NDArray[np.bool_], weight: NDArray[Any] | None = None
) -> float:
    """Return the probability that a positive pair scores above a negative one; ties count 1/2.

    1/2 without any relation, 1 where the score separates the groups; NaN if a group is empty or
    without weight.

    >>> auroc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
    0.875

    Args:
        score: Any number of each pair, such as its epistemic variance, shape (N,).
        positive: True for the group that should score higher, shape (N,).
        weight: Weight of each pair, such as how often a bootstrap drew it; 1 when omitted.

    Raises:
        ValueError: If the arrays differ in length, or a score is NaN.
    """
    weight = np.ones(len(score)) if weight is None else np.asarray(weight, dtype=np.float64)
    if not len(score) == len(positive) == len(weight):
        raise ValueError(
            f"auroc: {len(score)} scores, {len(positive)} groups, {len(weight)} weights; each "
            "pair needs one of each."
        )
    if np.isnan(score).any():
        raise ValueError(f"auroc: score of pair {np.flatnonzero(np.isnan(score))[0]} is NaN.")
    values, level = np.unique(score, return_inverse=True)
    high = np.bincount(level, weight * positive, minlength=len(values))
    low = np.bincount(level, weight * ~positive, minlength=len(values))
    total = high.sum() * low.sum()
    if total == 0:
        return float("nan")
    below = np.cumsum(low) - low
    return float((high * (below + low / 2)).sum() / total)


def auroc_estimate(
    score: NDArray[Any],
    positive: NDArray[np.bool_],
    prompt: NDArray[Any],
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> Estimate:
    """Return :func:`auroc` with a standard error bootstrapped over prompts.

    Args:
        score: Any number of each pair, shape (N,).
        positive: True for the group that should score higher, shape (N,).
        prompt: Prompt of each pair, other numbers in other data sets, shape (N,).
        num_draws: Bootstrap draws.
        seed: Fixes them.
    """
    draws = prompt_bootstrap(
        lambda weight: auroc(score, positive, weight), np.ones(len(score)), prompt, num_draws, seed
    )
    # A draw may miss one of the groups.
    return Estimate(auroc(score, positive), float(np.nanstd(draws, ddof=1)))

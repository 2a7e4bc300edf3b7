"""What length alone predicts: the rate every reward model has to beat first."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.diagnostics.metrics.pair_metrics import Estimate, accuracy


class LengthBaseline(NamedTuple):
    """Accuracy of two rules that never read the text.

    Attributes:
        longest: Accuracy of "the longer response wins"; equal lengths count 1/2.
        shortest: Accuracy of "the shorter response wins"; on pairs, one minus the other.
    """

    longest: Estimate
    shortest: Estimate


def length_baseline(
    first_length: NDArray[Any],
    second_length: NDArray[Any],
    preference: NDArray[Any],
    weight: NDArray[Any],
    prompt: NDArray[Any],
) -> LengthBaseline:
    """Return the accuracy of always-longest and always-shortest.

    Benchmarks are confounded with length, in either direction: compare every accuracy with
    these two.

    >>> ones = np.ones(2)
    >>> found = length_baseline(np.array([90, 20]), np.array([40, 20]), ones, ones, np.arange(2))
    >>> found.longest.value, found.shortest.value
    (0.75, 0.25)

    Args:
        first_length: Characters of the first response, shape (N,).
        second_length: Characters of the second, shape (N,).
        preference: Probability in [0, 1] that the first is preferred, shape (N,).
        weight: Weight of each pair, shape (N,).
        prompt: Prompt of each pair, shape (N,).
    """
    rule = 0.5 + 0.5 * np.sign(np.asarray(first_length) - np.asarray(second_length))
    return LengthBaseline(
        accuracy(rule, preference, weight, prompt),
        accuracy(1 - rule, preference, weight, prompt),
    )

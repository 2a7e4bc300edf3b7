"""Which weights and features react to the text (spec 4.10)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.models.reference_kl import FEATURE_THRESHOLD, weight_threshold


class ActiveUnits(NamedTuple):
    """Variance over texts of the expected latents, and how many of them are active.

    Attributes:
        weights: Number of objectives whose expected weight varies with the prompt.
        features: Number of features whose expected value varies with the response.
        variance_weights: Var over prompts of E[w_k | x], shape (K,).
        variance_features: Var over responses of E[z_d | x, y], shape (d_z,).
        threshold_weights: What ``variance_weights`` was compared with.
        threshold_features: What ``variance_features`` was compared with.
    """

    weights: int
    features: int
    variance_weights: NDArray[np.float64]
    variance_features: NDArray[np.float64]
    threshold_weights: float
    threshold_features: float


def active_units(expected_weights: NDArray[Any], expected_features: NDArray[Any]) -> ActiveUnits:
    """Count active units: those whose expectation given the text varies from text to text.

    Given the text alone, not given outcomes: q moves with the labels even where the text says
    nothing, and a small KL(q || p_theta) is no collapse (spec 2.2). The unit of z is a
    convention in mode ``conditional`` unless a hyper-prior or ``scores="identity"`` fixes it.

    >>> weights = np.array([[0.2, 0.8], [0.8, 0.2]])
    >>> features = np.array([[0.0, 1.0], [0.0, -1.0]])
    >>> found = active_units(weights, features)
    >>> found.weights, found.features
    (2, 1)

    Args:
        expected_weights: E[w | x], shape (P, K).
        expected_features: E[z | x, y], shape (R, d_z).
    """
    # In float64: differences of nearly equal float32 weights lose the digits that count.
    weights = np.asarray(expected_weights, dtype=np.float64).var(axis=0)
    features = np.asarray(expected_features, dtype=np.float64).var(axis=0)
    threshold = weight_threshold(weights.shape[0])
    return ActiveUnits(
        int((weights > threshold).sum()),
        int((features > FEATURE_THRESHOLD).sum()),
        weights,
        features,
        threshold,
        FEATURE_THRESHOLD,
    )

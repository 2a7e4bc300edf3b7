"""Standard errors that preferences leave for objective weights (spec 2.8.6)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]


class WeightErrors(NamedTuple):
    """Standard errors of weights and reward scale, as far as the data allow (spec 2.8.6).

    Attributes:
        weights: Standard error of every weight, shape (K,); infinite where no pair tells.
        scale: Standard error of beta.
        condition: Condition number of the information on the tangent of the simplex, where only
            the sum of the weights is fixed. Large: some objectives rise and fall together, and a
            plot of their weights shows one of many splits that fit alike.
    """

    weights: Floats
    scale: float
    condition: float


def weight_standard_errors(
    score_differences: Floats,
    weights: Floats,
    scale: float,
    pair_weight: Floats | None = None,
) -> WeightErrors:
    """Return the standard errors that Bradley-Terry labels on known scores leave for w and beta.

    Preferences identify gamma = beta w. With Delta_n = gamma' d_n the Fisher information is
    I(gamma) = sum_n sigmoid'(Delta_n) d_n d_n', and the delta method takes its inverse to
    w = gamma / beta and beta = sum_k gamma_k with the Jacobians (I - w 1') / beta and 1'.

    A lower limit on the uncertainty of any fit: scores are taken as known, and w as one for all
    the pairs handed in. For weights that differ by kind of prompt, call it kind by kind.

    >>> apart = np.tile([[1.0, -1.0], [1.0, 0.0]], (50, 1))
    >>> alike = np.ones((100, 2))  # objectives that always rise together
    >>> w = np.array([0.5, 0.5])
    >>> weight_standard_errors(apart, w, 1.0).weights.round(2)
    array([0.14, 0.14])
    >>> weight_standard_errors(alike, w, 1.0).weights
    array([inf, inf])

    Args:
        score_differences: d = s_first - s_second of every pair, in score units, shape (N, K).
        weights: w, on the simplex, shape (K,).
        scale: beta > 0.
        pair_weight: Power on the likelihood of every pair, shape (N,); 1 when omitted.

    Raises:
        ValueError: If the weights do not lie on the simplex or ``scale`` is not positive.
    """
    if (weights < 0).any() or abs(weights.sum() - 1) > 1e-4:
        raise ValueError(
            f"weights are {weights.tolist()}, but must be >= 0 and sum to 1. Pass w, not beta * w."
        )
    if not scale > 0:
        raise ValueError(f"scale (beta) is {scale}, but must be > 0.")
    probability = expit(scale * (score_differences @ weights))
    curvature = probability * (1 - probability)
    if pair_weight is not None:
        curvature = curvature * pair_weight
    information = (score_differences * curvature[:, None]).T @ score_differences  # (K, K)

    num_objectives = len(weights)
    ones = np.ones((1, num_objectives))
    to_weights = (np.eye(num_objectives) - np.outer(weights, ones)) / scale
    errors = _propagate(information, np.concatenate([to_weights, ones]))
    # All but the first right singular vector of 1' span the changes that keep the sum.
    tangent = np.linalg.svd(ones)[2][1:]
    condition = _condition(tangent @ information @ tangent.T)
    return WeightErrors(errors[:-1], float(errors[-1]), condition)


def _informed(eigenvalues: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return which of the ascending eigenvalues of an information matrix are not rounding."""
    return eigenvalues > eigenvalues[-1] * len(eigenvalues) * np.finfo(np.float64).eps


def _propagate(information: Floats, jacobian: Floats) -> Floats:
    """Return sqrt(diag(J I^-1 J')), infinite for rows of J that touch an uninformed direction."""
    values, vectors = np.linalg.eigh(information)
    informed = _informed(values)
    rows = jacobian @ vectors
    variance = (rows[:, informed] ** 2 / values[informed]).sum(-1)
    uninformed = (np.abs(rows[:, ~informed]) > 1e-6).any(-1)
    return np.where(uninformed, np.inf, np.sqrt(variance))


def _condition(matrix: Floats) -> float:
    """Return largest over smallest eigenvalue, infinite when singular, 1 for an empty matrix."""
    if matrix.size == 0:
        return 1.0
    values = np.linalg.eigvalsh(matrix)
    return float(values[-1] / values[0]) if _informed(values)[0] else float("inf")

"""Power-scaling of a part of a posterior by importance weights: how far a quantity moves."""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from arviz_stats.base import array_stats
from numpy.typing import NDArray
from scipy.special import kl_div

Floats = NDArray[np.float64]

# Powers to both sides of 1; ArviZ's own, so that numbers compare with those of its `psense`.
ALPHAS: Final = (0.99, 1.01)
# From fewer draws, the tail that a generalised Pareto distribution is fitted to is under 20.
MIN_DRAWS: Final = 100
# Log ratios that spread less than this are equal up to rounding.
ROUNDING: Final = 1e-9


class Smoothed(NamedTuple):
    """Importance weights of the draws of each case, Pareto-smoothed.

    Attributes:
        weights: Non-negative, with sum 1 over the draws, shape (S, cases).
        khat: Estimated tail index, shape (cases,); 0 where the largest ratios are all equal,
            infinite where a ratio is not finite (the weights are then uniform).
    """

    weights: Floats
    khat: Floats


def khat_limit(num_draws: int) -> float:
    """Return the k-hat above which weights on so many draws are unreliable (spec 4.2).

    min(1 - 1 / log10 S, .7), from Vehtari et al., "Pareto smoothed importance sampling" (2024).

    >>> khat_limit(100), khat_limit(10_000)
    (0.5, 0.7)
    """
    return min(1 - 1 / math.log10(num_draws), 0.7)


def smooth(log_ratio: Floats) -> Smoothed:
    """Pareto-smooth importance ratios, case by case (spec 4.2).

    Args:
        log_ratio: log of target over proposal at the draws, up to a constant, (S, cases).
    """
    num_draws, num_cases = log_ratio.shape
    tail = min(num_draws // 5, math.floor(3 * math.sqrt(num_draws)))
    largest = np.partition(log_ratio, num_draws - tail, axis=0)[num_draws - tail :]
    weights = np.full_like(log_ratio, 1 / num_draws)
    khat = np.full(num_cases, np.inf)
    for case in np.flatnonzero(np.isfinite(log_ratio).all(0)):
        column = log_ratio[:, case]
        if np.ptp(largest[:, case]) < ROUNDING:  # ArviZ refuses a tail of equal values
            log_weight, khat[case] = column - column.max(), 0.0
        else:
            # psislw takes log likelihoods, which are negated log ratios.
            log_weight, khat[case] = array_stats.psislw(-column)
        weight = np.exp(log_weight)
        weights[:, case] = weight / weight.sum()
    return Smoothed(weights, khat)


def khat_of_power(
    log_ratio: Floats, log_density: Floats, alphas: tuple[float, float] = ALPHAS
) -> Floats:
    """Return the larger k-hat of the weights towards the two perturbed posteriors, (cases,).

    Args:
        log_ratio: log of posterior over proposal at the draws, shape (S, cases).
        log_density: log of the part that is raised to a power, shape (S, cases).
        alphas: The two powers.
    """
    with np.errstate(invalid="ignore"):  # -inf times a negative power: not finite, so infinite k
        return np.maximum(*(smooth(log_ratio + (a - 1) * log_density).khat for a in alphas))


def cjs_distance(width: Floats, first: Floats, second: Floats) -> Floats:
    """Return the cumulative Jensen-Shannon distance of two distribution functions, in [0, 1].

    sqrt(sum of width (KL(P, M) + KL(Q, M)) / sum of width (P + Q)), M = (P + Q) / 2, with the
    generalised KL in bits of distribution functions (Nguyen and Vreeken 2015; Kallioinen et al.,
    "Detecting and diagnosing prior and likelihood sensitivity with power-scaling", 2024).

    Args:
        width: Lengths of the intervals on which both functions are constant, (intervals, cases).
        first: Values of P there, of the same shape.
        second: Values of Q there.

    Returns:
        Distance of each case; 0 where nothing has any length.

    >>> cjs_distance(np.ones((1, 2)), np.array([[0.5, 1.0]]), np.array([[0.5, 0.0]]))
    array([0., 1.])
    """
    middle = (first + second) / 2
    divergence = (width * (kl_div(first, middle) + kl_div(second, middle))).sum(0) / math.log(2)
    bound = (width * (first + second)).sum(0)
    # Of equal functions it is 0 up to rounding, which may fall below.
    divergence = np.maximum(divergence, 0.0)
    return np.sqrt(np.divide(divergence, bound, out=np.zeros_like(bound), where=bound > 0))


def power_scaling_index(
    values: Floats,
    weights: Floats,
    log_densities: Mapping[str, Floats],
    alphas: tuple[float, float] = ALPHAS,
) -> dict[str, Floats]:
    """Return how fast each quantity's distribution moves with the power on each part (spec 4.9).

    The posterior is the weighted draws; raising a part p of it to the power alpha turns the
    weights into weights * p^(alpha - 1). The index is the derivative by log2 alpha of the
    distance between the two distributions (:func:`cjs_distance`, the larger one of x and -x),
    averaged over both sides. It does not depend on location or unit of the quantity. With equal
    weights this is ``arviz_stats.psense`` without its second smoothing: at powers this near to 1
    the perturbation has no tail of its own, and two fits of the tail would differ by more than it.

    Weights of draws that are wider than the posterior leave long stretches where its distribution
    function is 0 or 1, and the distance is relative to the range. So it is taken over the range
    that S draws of the posterior itself would span: 1/S to 1 - 1/S.

    Args:
        values: Draws of the quantities, shape (S, cases).
        weights: Their weights, shape (S, cases), with sum 1 over the draws.
        log_densities: log of each part at the draws, up to a constant, each (S, cases).
        alphas: A power below 1 and one above.

    Returns:
        Index by part, each (cases,). Above .05 counts as sensitive.

    Raises:
        ValueError: If 1 does not lie between the powers.
    """
    if not 0 < alphas[0] < 1 < alphas[1]:
        raise ValueError(f"alphas are {alphas}, but must lie on both sides of 1, above 0.")
    order = np.argsort(values, axis=0)
    width = np.diff(np.take_along_axis(values, order, 0), axis=0)
    base = np.take_along_axis(weights, order, 0)
    first = np.cumsum(base, axis=0)[:-1]
    edge = 1 / len(values) - ROUNDING
    width = np.where((first >= edge) & (first <= 1 - edge), width, 0.0)
    found = {}
    for name, log_density in log_densities.items():
        part = np.take_along_axis(log_density, order, 0)
        part = part - part.mean(0)
        slopes = []
        for alpha in alphas:
            perturbed = base * np.exp((alpha - 1) * part)
            second = np.cumsum(perturbed / perturbed.sum(0), axis=0)[:-1]
            # Rounding may carry a sum past 1.
            second = np.minimum(second, 1.0)
            upward = cjs_distance(width, first, second)
            downward = cjs_distance(width, np.maximum(1 - first, 0.0), 1 - second)
            slopes.append(np.maximum(upward, downward) / abs(math.log2(alpha)))
        found[name] = (slopes[0] + slopes[1]) / 2
    return found

"""Rates of preference predictions, each with a standard error over prompts.

A soft label c counts as a label drawn with that probability: every rate is the expectation over
that draw. So a pair labelled 0.5 adds 1/2 to the accuracy of any model and ln 2 at least to its
log loss, and the best accuracy there is lies below 1 where labels are soft.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.diagnostics.metrics.bootstrap import NUM_DRAWS, Statistic, prompt_bootstrap

# Labels arrive as integers, probabilities as float32: any number will do.
Floats = NDArray[Any]

NUM_BINS = 15
# Half a step of float32 at 1: no float32 probability below 1 is nearer to it.
PROBABILITY_FLOOR = 2.0**-24
# Quadrature of a symmetric integrand gives 1/2 up to rounding; such a prediction is a tie.
TIE = 1e-6


class Estimate(NamedTuple):
    """A number and its standard error over prompts; NaN where one prompt is all there is."""

    value: float
    standard_error: float


class PairMetrics(NamedTuple):
    """Rates of one set of pairs.

    Attributes:
        num_pairs: Pairs with a positive weight.
        num_prompts: Prompts they belong to: the unit of every standard error.
        accuracy: Share of labels on the side the model prefers; a tie counts 1/2.
        log_loss: Mean of -log p(label), in nats.
        brier: Mean of (p(label) - 1)^2.
        ece: Expected calibration error of the confidence max(p, 1 - p).
        accuracy_at_50: Accuracy on the half of the pairs the model is surest of.
    """

    num_pairs: int
    num_prompts: int
    accuracy: Estimate
    log_loss: Estimate
    brier: Estimate
    ece: Estimate
    accuracy_at_50: Estimate


def accuracy_values(p_first: Floats, preference: Floats) -> Floats:
    """Return the probability that the label is on the predicted side, shape (N,); ties 1/2.

    >>> accuracy_values(np.array([0.9, 0.2, 0.5]), np.array([1.0, 0.7, 1.0])).round(2)
    array([1. , 0.3, 0.5])
    """
    first, second = p_first > 0.5 + TIE, p_first < 0.5 - TIE
    return np.where(first, preference, np.where(second, 1 - preference, 0.5))


def log_loss_values(p_first: Floats, preference: Floats) -> Floats:
    """Return -c log p - (1 - c) log(1 - p) in nats, shape (N,).

    Probabilities are kept 2^-24 away from 0 and 1, where float32 cannot tell them apart.
    """
    p = np.clip(np.asarray(p_first, np.float64), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return -preference * np.log(p) - (1 - preference) * np.log1p(-p)


def brier_values(p_first: Floats, preference: Floats) -> Floats:
    """Return c (1 - p)^2 + (1 - c) p^2, shape (N,).

    >>> brier_values(np.array([0.9, 0.9]), np.array([1.0, 0.0])).round(2)
    array([0.01, 0.81])
    """
    return preference * (1 - p_first) ** 2 + (1 - preference) * p_first**2


def cluster_mean(values: Floats, weight: Floats, prompt: NDArray[np.int64]) -> Estimate:
    """Return a weighted mean over pairs and its cluster-robust standard error.

    A ratio estimator: sums of the prompts, not pairs, are the independent observations, and their
    sizes vary. With T_g and W_g the weighted sum and the weight of prompt g, R = sum T / sum W and
    se^2 = G / (G - 1) sum (T_g - R W_g)^2 / (sum W)^2.

    >>> cluster_mean(np.array([1.0, 1.0, 0.0]), np.ones(3), np.array([0, 0, 1])).value.__round__(3)
    0.667
    """
    _, inverse = np.unique(prompt[weight > 0], return_inverse=True)
    sums = np.bincount(inverse, (weight * values)[weight > 0])
    masses = np.bincount(inverse, weight[weight > 0])
    total, groups = masses.sum(), len(masses)
    if groups == 0:
        return Estimate(float("nan"), float("nan"))
    mean = sums.sum() / total
    if groups == 1:
        return Estimate(float(mean), float("nan"))
    squares = ((sums - mean * masses) ** 2).sum() * groups / (groups - 1)
    return Estimate(float(mean), float(np.sqrt(squares) / total))


def accuracy(
    p_first: Floats, preference: Floats, weight: Floats, prompt: NDArray[np.int64]
) -> Estimate:
    """Return the weighted accuracy; a predicted tie counts 1/2."""
    return cluster_mean(accuracy_values(p_first, preference), weight, prompt)


def log_loss(
    p_first: Floats, preference: Floats, weight: Floats, prompt: NDArray[np.int64]
) -> Estimate:
    """Return the weighted mean log loss in nats."""
    return cluster_mean(log_loss_values(p_first, preference), weight, prompt)


def brier(
    p_first: Floats, preference: Floats, weight: Floats, prompt: NDArray[np.int64]
) -> Estimate:
    """Return the weighted mean Brier score."""
    return cluster_mean(brier_values(p_first, preference), weight, prompt)


class RankedPairs:
    """Pairs grouped by equal confidence max(p, 1 - p): the order of rows changes no rate.

    Attributes:
        confidence: Levels of confidence, rising, shape (L,).
        level: Position of each pair's level, shape (N,).
        agreement: Probability that the label is on the predicted side, shape (N,).
    """

    def __init__(self, p_first: Floats, preference: Floats) -> None:
        p = np.asarray(p_first, np.float64)
        # Rounded: 1 - (1 - p) is not quite p, and the order of the responses must not matter.
        confidence = np.round(np.maximum(p, 1 - p), 12)
        self.confidence, self.level = np.unique(confidence, return_inverse=True)
        self.agreement = accuracy_values(p, preference)

    def masses(self, weight: Floats) -> tuple[Floats, Floats]:
        """Return weight and weighted agreement of each level, each (L,)."""
        size = len(self.confidence)
        mass = np.bincount(self.level, weight, minlength=size)
        agree = np.bincount(self.level, weight * self.agreement, minlength=size)
        return mass, agree

    def bins(self, weight: Floats, num_bins: int) -> NDArray[np.int64]:
        """Return the bin of each level, (L,): bins of equal weight, no level split."""
        mass = self.masses(weight)[0]
        middle = (np.cumsum(mass) - mass / 2) / mass.sum()
        return np.minimum((num_bins * middle).astype(np.int64), num_bins - 1)

    def calibration_error(self, weight: Floats, num_bins: int) -> float:
        """Return the ECE over bins of equal weight; NaN without weight."""
        mass, agree = self.masses(weight)
        if mass.sum() == 0:
            return float("nan")
        gap = np.bincount(self.bins(weight, num_bins), mass * self.confidence - agree)
        return float(np.abs(gap).sum() / mass.sum())

    def surest_half(self, weight: Floats) -> float:
        """Return the accuracy on the surest half of the weight; the level at the cut in part."""
        return float(self.surest(weight, np.array([0.5]))[0])

    def surest(self, weight: Floats, coverage: Floats) -> Floats:
        """Return the accuracy on the surest shares of the weight, shape (C,)."""
        mass, agree = self.masses(weight)
        covered = mass.sum() * coverage
        if mass.sum() == 0:
            return np.full(len(coverage), np.nan)
        above = np.cumsum(mass[::-1])[::-1] - mass
        room = covered[:, None] - above  # (C, levels)
        share = np.divide(room, mass, out=np.zeros_like(room), where=mass > 0)
        return (np.clip(share, 0, 1) * agree).sum(1) / covered


def expected_calibration_error(
    p_first: Floats, preference: Floats, weight: Floats, num_bins: int = NUM_BINS
) -> float:
    """Return the ECE of the confidence max(p, 1 - p) over bins of equal weight.

    Of the confidence, since which response stands first is a convention: where every row lists
    the chosen one first, all labels are 1 and the calibration of p itself means nothing.

    >>> p, label = np.array([0.8, 0.8, 0.2, 0.2]), np.array([1.0, 0.0, 0.0, 0.0])
    >>> round(expected_calibration_error(p, label, np.ones(4)), 3)
    0.05
    """
    return RankedPairs(p_first, preference).calibration_error(weight, num_bins)


def surest_accuracies(
    p_first: Floats, preference: Floats, coverage: Floats
) -> Callable[[Floats], Floats]:
    """Return the function from weights (N,) to accuracies on the surest shares of them, (C,)."""
    ranked = RankedPairs(p_first, preference)
    return lambda weight: ranked.surest(weight, coverage)


def surest_half_accuracy(p_first: Floats, preference: Floats, weight: Floats) -> float:
    """Return the accuracy on the half of the weight with the largest max(p, 1 - p).

    A level of confidence that the cut runs through counts in part; NaN without weight.

    >>> surest_half_accuracy(np.array([0.9, 0.6]), np.array([1.0, 0.0]), np.ones(2))
    1.0
    """
    return RankedPairs(p_first, preference).surest_half(weight)


def ece(
    p_first: Floats,
    preference: Floats,
    weight: Floats,
    prompt: NDArray[np.int64],
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> Estimate:
    """Return :func:`expected_calibration_error` with a standard error bootstrapped over prompts.

    The ECE of a finite sample is positive even for perfect calibration, roughly by
    sqrt(bins / pairs) / 2; compare models on the same pairs only.
    """
    ranked = RankedPairs(p_first, preference)

    def error(resampled: Floats) -> float:
        return ranked.calibration_error(resampled, NUM_BINS)

    return _bootstrapped(error, weight, prompt, num_draws, seed)


def accuracy_at_50(
    p_first: Floats,
    preference: Floats,
    weight: Floats,
    prompt: NDArray[np.int64],
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> Estimate:
    """Return the accuracy on the half of the pairs with the largest max(p, 1 - p).

    Its standard error is bootstrapped over prompts, as the cut moves with the sample too.
    """
    ranked = RankedPairs(p_first, preference)
    return _bootstrapped(ranked.surest_half, weight, prompt, num_draws, seed)


def _bootstrapped(
    statistic: Statistic, weight: Floats, prompt: NDArray[np.int64], num_draws: int, seed: int
) -> Estimate:
    value = statistic(weight)
    if len(np.unique(prompt[weight > 0])) < 2:
        return Estimate(value, float("nan"))
    draws = prompt_bootstrap(statistic, weight, prompt, num_draws, seed)
    # A draw may miss every prompt with weight.
    return Estimate(value, float(np.nanstd(draws, ddof=1)))


def pair_metrics(
    p_first: Floats,
    preference: Floats,
    weight: Floats,
    prompt: NDArray[np.int64],
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> PairMetrics:
    """Return every rate of a set of pairs.

    >>> p, label = np.array([0.9, 0.6, 0.7, 0.8]), np.array([1.0, 0.0, 1.0, 1.0])
    >>> found = pair_metrics(p, label, np.ones(4), np.array([0, 0, 1, 1]))
    >>> found.num_prompts, found.accuracy.value, round(found.brier.value, 3)
    (2, 0.75, 0.125)

    Args:
        p_first: Predicted probability that the first response is preferred, shape (N,).
        preference: Probability in [0, 1] that it was, shape (N,).
        weight: Weight of each pair, >= 0, shape (N,).
        prompt: Prompt of each pair, any integers, shape (N,).
        num_draws: Bootstrap draws for ``ece`` and ``accuracy_at_50``.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If the arrays differ in length, or a probability is NaN or outside [0, 1].
    """
    arrays = [np.asarray(a, dtype=np.float64) for a in (p_first, preference, weight)]
    prompt = np.asarray(prompt)
    if len({len(a) for a in (*arrays, prompt)}) != 1:
        raise ValueError(
            f"pair_metrics: lengths {[len(a) for a in (*arrays, prompt)]} of p_first, "
            "preference, weight and prompt differ."
        )
    if not ((arrays[0] >= 0) & (arrays[0] <= 1)).all():
        bad = np.flatnonzero(~((arrays[0] >= 0) & (arrays[0] <= 1)))[0]
        raise ValueError(f"pair_metrics: p_first of pair {bad} is {arrays[0][bad]}.")
    p, c, w = arrays
    used = w > 0
    return PairMetrics(
        int(used.sum()),
        len(np.unique(prompt[used])),
        accuracy(p, c, w, prompt),
        log_loss(p, c, w, prompt),
        brier(p, c, w, prompt),
        ece(p, c, w, prompt, num_draws, seed),
        accuracy_at_50(p, c, w, prompt, num_draws, seed),
    )

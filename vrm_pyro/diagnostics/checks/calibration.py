"""Whether predicted probabilities come true: reliability, ECE, Brier score, slope (spec 4.6)."""

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit

from vrm_pyro.diagnostics.checks.applies import NO_PAIRS, no_pairs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import Finding, is_alarm, not_applicable, smallest
from vrm_pyro.diagnostics.checks.material import Floats, Material
from vrm_pyro.diagnostics.metrics.bootstrap import prompt_bootstrap
from vrm_pyro.diagnostics.metrics.clustered_tests import MIN_PROMPTS, prompt_sums, residuals_vanish
from vrm_pyro.diagnostics.metrics.pair_metrics import PROBABILITY_FLOOR, ece
from vrm_pyro.diagnostics.metrics.temperature import HIGHEST, temperature_scale

NAME: Final = "calibration"

CURVE_POINTS: Final = 51
NUM_DRAWS: Final = 200
# Predictions are pooled to this step before the isotonic fit, which then does not grow with rows.
STEP: Final = 1e-3
NUM_BINS: Final = 4


class Reliability(NamedTuple):
    """Observed rate as a rising function of the predicted probability.

    Attributes:
        predicted: Probabilities between the least and the largest prediction, shape (points,).
        observed: Isotonic (PAVA) estimate of the rate there.
        lower: 2.5% quantile over bootstrap draws of the prompts, point by point.
        upper: 97.5% quantile.
        miscalibration: Brier score that the isotonic fit takes away.
        discrimination: Brier score that the fit gains over the constant rate.
        uncertainty: Brier score of the constant rate; Brier score = miscalibration -
            discrimination + uncertainty (the CORP decomposition of Dimitriadis, Gneiting and
            Jordan, 2021).
    """

    predicted: Floats
    observed: Floats
    lower: Floats
    upper: Floats
    miscalibration: float
    discrimination: float
    uncertainty: float


def reliability(
    p_first: Floats,
    preference: Floats,
    weight: Floats,
    prompt: NDArray[Any],
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> Reliability:
    """Return the reliability curve of predictions, and the Brier decomposition it gives.

    Each pair counts in both orders, (p, c) and (1 - p, 1 - c), with half its weight: which
    response a row lists first is a convention.

    Args:
        p_first: Predicted probability that the first is preferred, shape (N,).
        preference: Probability in [0, 1] that it was, shape (N,).
        weight: Weight of each pair, shape (N,).
        prompt: Prompt of each pair, shape (N,).
        num_draws: Bootstrap draws of the band.
        seed: Fixes them.
    """
    p = np.concatenate([p_first, 1 - p_first])
    c = np.concatenate([preference, 1 - preference])
    levels, place = np.unique(np.round(p / STEP) * STEP, return_inverse=True)
    double = np.concatenate([weight, weight]) / 2

    def fit(weights: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        mass = np.bincount(place, weights, minlength=len(levels))
        hits = np.bincount(place, weights * c, minlength=len(levels))
        used = mass > 0
        return (
            levels[used],
            isotonic_regression(hits[used] / mass[used], weights=mass[used]).x,
            used,
        )

    x, y, used = fit(double)
    grid = np.linspace(x[0], x[-1], CURVE_POINTS)
    curves: list[Floats] = []

    def draw(weights: Floats) -> float:
        found = fit(np.concatenate([weights, weights]) / 2)
        curves.append(np.interp(grid, found[0], found[1]))
        return 0.0

    prompt_bootstrap(draw, weight, prompt, num_draws, seed)
    lower, upper = np.quantile(curves, [0.025, 0.975], axis=0)
    fitted = np.zeros(len(levels))
    fitted[used] = y
    rate = float((double * c).sum() / double.sum())

    def brier(q: Floats) -> float:
        return float((double * (c * (1 - q) ** 2 + (1 - c) * q**2)).sum() / double.sum())

    score, best, flat = brier(p), brier(fitted[place]), brier(np.full_like(p, rate))
    return Reliability(grid, np.interp(grid, x, y), lower, upper, score - best, flat - best, flat)


def calibration_slope(
    p_first: Floats, preference: Floats, weight: Floats, prompt: NDArray[Any]
) -> tuple[float, float]:
    """Return the slope of the label's logit on the predicted one, and its error by prompts.

    1 for calibrated predictions, below 1 for overconfident ones. Without intercept: the exchange
    of both responses must not matter.
    """
    x = _logit(p_first)
    temperature = temperature_scale(x, preference, weight)
    slope = 1 / temperature
    if temperature >= HIGHEST:  # no positive slope: labels may go against the predictions
        slope = -1 / temperature_scale(-x, preference, weight)
    fitted = expit(slope * x)
    information = float((weight * fitted * (1 - fitted) * x**2).sum())
    if information <= 0:
        return slope, math.nan
    scores = prompt_sums(weight * x * (preference - fitted), prompt)
    return slope, float(np.sqrt((scores**2).sum()) / information)


def calibration(
    p_first: NDArray[Any],
    preference: NDArray[Any],
    weight: NDArray[Any],
    prompt: NDArray[Any],
    seed: int = 0,
) -> Finding:
    """Test that predicted probabilities come true.

    Under calibration c - p has mean zero whatever is known beforehand. Two tests: on
    (c - p) logit(p), which sees over- and underconfidence, and on the signed error in four bins
    of the confidence, which sees where.

    Args:
        p_first: Predicted probability that the first is preferred, from texts alone, shape (N,).
        preference: Probability in [0, 1] that it was, shape (N,); rows not trained on.
        weight: Weight of each pair, shape (N,).
        prompt: Prompt of each pair, shape (N,).
        seed: Of the bootstrap.
    """
    used = np.asarray(weight) > 0
    p, c, w = (np.asarray(a, np.float64)[used] for a in (p_first, preference, weight))
    prompt = np.asarray(prompt)[used]
    groups = len(np.unique(prompt))
    if groups < MIN_PROMPTS:
        return not_applicable(
            NAME, f"{groups} prompts with a comparison; it takes {MIN_PROMPTS} or more."
        )
    x = _logit(p)
    confidence = np.maximum(p, 1 - p)
    error = w * (c - p) * np.sign(p - 0.5)
    place = _bins(p, confidence)
    side = np.eye(NUM_BINS)[place] * (w * np.sign(p - 0.5))[:, None]
    by_slope = residuals_vanish((w * x)[:, None], c - p, p, prompt)
    by_bins = residuals_vanish(side, c - p, p, prompt)
    p_value = smallest([by_slope, by_bins])
    slope, slope_error = calibration_slope(p, c, w, prompt)
    curve = reliability(p, c, w, prompt, seed=seed)
    calibration_error = ece(p, c, w, prompt, seed=seed)
    alarm = is_alarm(p_value)
    verdict = (
        f"slope {slope:.2f} (1 is calibrated), ECE {calibration_error.value:.3f}, Brier score "
        f"{curve.miscalibration - curve.discrimination + curve.uncertainty:.3f}, of which "
        f"{curve.miscalibration:.3f} from miscalibration."
    )
    advice = ""
    if alarm and slope < 0:
        verdict += " The labels go against the predictions."
        advice = "Check which response the rows name as preferred; see predictive for subsets."
    elif alarm and slope < 1:
        verdict += " The predictions are overconfident."
        advice = (
            f"Divide logits by {1 / max(slope, 1e-3):.2f} (temperature on validation rows), stop "
            "training earlier, or take model.likelihood Lapse where labels are noisy."
        )
    elif alarm:
        verdict += " The predictions are underconfident, or off in some range of confidence."
        advice = "Train longer or with more features; look at the curve for where they are off."
    bins = [
        {
            "confidence": float(np.average(confidence[place == b], weights=w[place == b])),
            "error": float(error[place == b].sum() / w[place == b].sum()),
            "num_pairs": int((place == b).sum()),
        }
        for b in range(NUM_BINS)
        if (place == b).any()
    ]
    return Finding(
        NAME, slope, "calibration slope", slope_error, p_value, alarm, verdict, advice,
        detail={
            "num_pairs": len(p), "num_prompts": groups, "p_slope": by_slope, "p_bins": by_bins,
            "ece": calibration_error.value, "ece_se": calibration_error.standard_error,
            "bins": bins, "reliability": curve._asdict(),
        },
    )  # fmt: skip


def _bins(p: Floats, confidence: Floats) -> NDArray[np.int64]:
    """Return bins of the confidence with equal variance of the label: none expects no error."""
    order = np.argsort(confidence, kind="stable")
    mass = np.cumsum((p * (1 - p))[order])
    place = np.empty(len(p), np.int64)
    place[order] = np.minimum(NUM_BINS * mass / max(mass[-1], 1e-300), NUM_BINS - 1)
    return place


def _logit(p: Floats) -> Floats:
    return np.asarray(logit(np.clip(p, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)))


def find_calibration(material: Material) -> Finding:
    """Reliability, ECE, Brier score, slope."""
    if no_pairs(material):
        return not_applicable(NAME, NO_PAIRS)
    return calibration(
        material.predictions.p_first,
        material.preference,
        material.pair_weight,
        material.rows.pair_prompt,
        material.seed,
    )


CHECK: Final = Diagnostic(
    find_calibration,
    question="Do predicted probabilities come true?",
    group="posterior_predictive, observed_data",
    costly=False,
)

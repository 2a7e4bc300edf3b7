"""Check ``calibration`` (spec 4.6): do predicted probabilities come true?"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from vrm_pyro.diagnostics.checks.applies import no_pairs
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs, Floats
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import Finding, is_alarm, not_applicable, smallest
from vrm_pyro.diagnostics.metrics.clustered_tests import MIN_PROMPTS, prompt_sums, residuals_vanish
from vrm_pyro.diagnostics.metrics.pair_metrics import PROBABILITY_FLOOR, ece
from vrm_pyro.diagnostics.metrics.reliability import reliability_curve
from vrm_pyro.diagnostics.metrics.temperature import HIGHEST, temperature_scale

NAME: Final = "calibration"
NUM_BINS: Final = 4


def calibration_slope(
    p_first: Floats, preference: Floats, weight: Floats, prompt: NDArray[Any]
) -> tuple[float, float]:
    """Return the slope of the label's logit on the predicted one, and its error by prompts.

    1 for calibrated predictions, below 1 for overconfident ones. Without intercept: swapping the
    two responses must not matter.

    >>> p, label = np.full(4, expit(2.0)), np.array([1.0, 1.0, 1.0, 0.0])
    >>> slope, _ = calibration_slope(p, label, np.ones(4), np.arange(4))
    >>> round(slope, 2)
    0.55
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

    If predictions are calibrated, c - p has mean zero given anything known beforehand. Two tests:
    (c - p) logit(p) detects over- and underconfidence, the signed error in four bins of the
    confidence detects where predictions are off.

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
    curve = reliability_curve(p, c, w, prompt)
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
    """Return bins of the confidence with equal sums of p (1 - p): each can show an error."""
    order = np.argsort(confidence, kind="stable")
    mass = np.cumsum((p * (1 - p))[order])
    place = np.empty(len(p), np.int64)
    place[order] = np.minimum(NUM_BINS * mass / max(mass[-1], 1e-300), NUM_BINS - 1)
    return place


def _logit(p: Floats) -> Floats:
    return np.asarray(logit(np.clip(p, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)))


def find_calibration(inputs: CheckInputs) -> Finding:
    """Reliability, ECE, Brier score, slope."""
    if reason := no_pairs(inputs):
        return not_applicable(NAME, reason)
    return calibration(
        inputs.predictions.p_first,
        inputs.preference,
        inputs.pair_weight,
        inputs.rows.pair_prompt,
        inputs.seed,
    )


CHECK: Final[Diagnostic] = Diagnostic(
    find_calibration,
    question="Do predicted probabilities come true?",
    group="posterior_predictive, observed_data",
    costly=False,
)

"""Check ``collapse`` (spec 4.10): do weights or features ignore the text?"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vrm_pyro.diagnostics.checks.applies import no_latents
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import Finding, is_alarm, not_applicable, smallest
from vrm_pyro.models.reference_kl import FEATURE_THRESHOLD, weight_threshold
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.prediction.predict import Predictions

NAME: Final = "collapse"
ALLOWED: Final = 0.9
"""Share of collapsed items that is still no alarm: texts may be much alike."""


def collapse(
    expected_weights: NDArray[Any] | None,
    expected_features: NDArray[Any],
    reason: str = "",
) -> Finding:
    """Return the share of prompts and responses whose latents are those of any other text.

    A prompt counts as collapsed if every E[w_k | x] is within a tenth of the standard deviation
    of w_k under Dir(1) of the mean over prompts; a response, if every E[z_d | x, y] is within .1
    of the mean over responses. A small KL(q || p) is no sign of collapse: a prior that reads the
    text leaves q little to add. The alarm tests that at most :data:`ALLOWED` of all items are
    collapsed (binomial, one test for each of w and z).

    >>> weights, features = np.full((99, 2), 0.5), np.random.default_rng(0).normal(size=(80, 3))
    >>> found = collapse(weights, features)
    >>> found.value, found.alarm
    (1.0, True)
    >>> found.verdict
    'w is the same on 100% of prompts; z follows the text on 100% of responses.'

    Args:
        expected_weights: E[w | x], shape (P, K); None where the settings give all prompts
            the same distribution.
        expected_features: E[z | x, y], shape (R, d_z).
        reason: Why there are no weights to look at.
    """
    shares: dict[str, float] = {}
    p_values: dict[str, float] = {}
    looked = {"z": (np.asarray(expected_features, np.float64), FEATURE_THRESHOLD, "responses")}
    if expected_weights is not None and expected_weights.shape[1] > 1:
        weights = np.asarray(expected_weights, np.float64)
        looked = {"w": (weights, weight_threshold(weights.shape[1]), "prompts"), **looked}
    parts = []
    for name, (values, threshold, items) in looked.items():
        near = (np.abs(values - values.mean(0)) < math.sqrt(threshold)).all(1)
        shares[name] = float(near.mean())
        p_values[name] = float(stats.binom.sf(near.sum() - 1, len(near), ALLOWED))
        gone = len(looked) * p_values[name] < 0.01
        parts.append(
            f"{name} is the same on {shares[name]:.0%} of {items}"
            if gone
            else f"{name} follows the text on {1 - shares[name]:.0%} of {items}"
        )
    p_value = smallest(p_values.values())
    alarm = is_alarm(p_value)
    verdict = "; ".join(parts) + (f" ({reason})." if reason else ".")
    advice = (
        "Lower the weight of the KL while training starts (annealing) or give free bits "
        "(model.free_bits_weights, free_bits_features); check that labels need it: doctor says "
        "whether they follow from mean ratings, which leaves weights nothing to learn."
        if alarm
        else ""
    )
    first = next(iter(looked))
    size = len(looked[first][0])
    share = shares[first]
    return Finding(
        NAME, share, f"share collapsed ({first})", math.sqrt(share * (1 - share) / size), p_value,
        alarm, verdict, advice,
        detail={"shares": shares, "p_values": p_values, "allowed": ALLOWED, "reason": reason},
    )  # fmt: skip


def find_collapse(inputs: CheckInputs) -> Finding:
    """Whether w and z ignore the text."""
    if reason := no_latents(inputs):
        return not_applicable(NAME, reason)
    return collapse_of(inputs.loaded.model, inputs.predictions)


def collapse_of(model: RewardModel, found: Predictions) -> Finding:
    """Whether w and z ignore the text, by what a model predicts of it."""
    assert found.expected_features is not None
    reason = ""
    if not model.weights_follow_prompt:
        reason = "model.weight_prior gives all prompts the same w"
    if model.num_objectives == 1:
        reason = "there is one objective: no weights"
    weights = None if reason else found.expected_weights
    return collapse(weights, found.expected_features, reason)


CHECK: Final[Diagnostic] = Diagnostic(
    find_collapse,
    question="Do weights and features ignore the text?",
    group="sample_stats",
    costly=False,
)

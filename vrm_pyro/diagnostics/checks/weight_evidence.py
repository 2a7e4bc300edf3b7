"""Check ``weights`` (spec 2.8, 4.11): how well do preferences tell the weights?"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from vrm_pyro.diagnostics.checks.applies import ONE_OBJECTIVE, no_latents, no_pairs
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import LEVEL, Finding, is_alarm, not_applicable
from vrm_pyro.diagnostics.metrics.clustered_tests import MIN_PROMPTS, residual_z, residuals_vanish
from vrm_pyro.diagnostics.metrics.identification import weight_standard_errors
from vrm_pyro.models.priors.shrinkage import ShrinkageMap

NAME: Final = "weights"
ILL_CONDITIONED: Final = 100.0
"""Condition number from which a split of weights is one of many that fit alike."""


def weight_evidence(
    score_difference: NDArray[Any],
    pair_weights: NDArray[Any],
    scale: float,
    p_first: NDArray[Any],
    preference: NDArray[Any],
    weight: NDArray[Any],
    prompt: NDArray[Any],
    objectives: Sequence[str],
    subset: Sequence[str] | None = None,
) -> Finding:
    """Return standard errors of the weights, and test whether labels ask for other weights.

    The standard errors are those that labels leave if scores are known (a lower limit), over all
    pairs and by subset; compare them with any figure of weights. The alarm tests that label minus
    prediction is unrelated to the difference in any score: if it rises with the difference in
    objective k, a larger w_k would have predicted better.

    Args:
        score_difference: E[s_first - s_second | texts], shape (N, K).
        pair_weights: E[w | x] of the prompt of each pair, shape (N, K).
        scale: beta.
        p_first: Predicted probability that the first is preferred, shape (N,).
        preference: Observed, shape (N,).
        weight: Weight of each pair, shape (N,).
        prompt: Prompt of each pair, shape (N,).
        objectives: Names, K of them.
        subset: Subset of each pair, empty text for none.
    """
    if len(objectives) == 1:
        return not_applicable(NAME, ONE_OBJECTIVE)
    d = np.asarray(score_difference, np.float64)
    residual = np.asarray(preference - p_first, np.float64)
    sides = np.asarray(weight, np.float64)[:, None] * d
    p_value = residuals_vanish(sides, residual, np.asarray(p_first, np.float64), prompt)
    alarm = is_alarm(p_value)
    each = {}
    for k, name in enumerate(objectives):
        z = residual_z(sides[:, k], residual, np.asarray(p_first, np.float64), prompt)
        each[name] = {"z": z, "p_value": 2 * float(stats.norm.sf(abs(z)))}
    everywhere = _errors(d, pair_weights, scale, weight)
    num = len(objectives)
    # What is known before any preference: the standard deviation of w under Dir(1).
    flat = math.sqrt((num - 1) / (num**2 * (num + 1)))
    largest = float(np.max(everywhere["standard_error"]))
    condition = everywhere["condition"]
    known = "infinite" if math.isinf(largest) else f"{largest:.3f}"
    verdict = (
        f"largest standard error of a weight {known}, against a standard deviation of {flat:.3f} "
        f"before any preference; condition number {condition:.3g}."
    )
    advice = ""
    if not largest < flat:
        reason = (
            "scores of objectives rise and fall together"
            if condition > ILL_CONDITIONED
            else "there are too few, or scores of the two responses hardly differ"
        )
        verdict += f" Preferences do not tell these weights: {reason}."
        advice = "Interpret the reward, not single weights."
    if alarm:
        wanted = [
            f"{'more' if t['z'] > 0 else 'less'} {name}"
            for name, t in each.items()
            if t["p_value"] < LEVEL / num
        ]
        verdict += f" The labels ask for other weights: {', '.join(wanted) or 'a combination'}."
        advice = (
            "Train on rows like these, or longer; check that ratings and weights carry the same "
            "objective names in the same order; shuffle says whether weights sit on wrong rows."
        )
    kinds = {}
    if subset is not None:
        names = np.asarray(subset, dtype=object)
        for name in sorted({str(s) for s in subset if s}):
            rows = names == name
            if len(np.unique(prompt[rows])) >= MIN_PROMPTS:
                kinds[name] = _errors(d[rows], pair_weights[rows], scale, weight[rows])
    return Finding(
        NAME, largest, "largest standard error of a weight", None, p_value, alarm, verdict, advice,
        detail={
            "objectives": list(objectives), "all": everywhere, "by_subset": kinds,
            "spread_before_preferences": flat, "wants_more_of": each,
        },
    )  # fmt: skip


def _errors(
    d: NDArray[np.float64], pair_weights: NDArray[Any], scale: float, weight: NDArray[Any]
) -> dict[str, Any]:
    mean = np.average(pair_weights, axis=0, weights=weight).astype(np.float64)
    found = weight_standard_errors(d, mean / mean.sum(), scale, np.asarray(weight, np.float64))
    return {
        "weight": mean,
        "standard_error": found.weights,
        "scale_standard_error": found.scale,
        "condition": found.condition,
        "num_pairs": len(d),
    }


def find_weights(inputs: CheckInputs) -> Finding:
    """Standard errors of the weights, and whether labels ask for others."""
    if reason := no_latents(inputs) or no_pairs(inputs):
        return not_applicable(NAME, reason)
    members = inputs.loaded.members
    scores, source = inputs.means.scores, inputs.rows.source
    assert scores is not None
    assert inputs.predictions.expected_weights is not None
    first, second = np.asarray(source.pair_first), np.asarray(source.pair_second)
    prompt = inputs.rows.pair_prompt
    finding = weight_evidence(
        scores[first] - scores[second],
        inputs.predictions.expected_weights[prompt],
        float(np.mean([member.reward().scale.item() for member in members])),
        inputs.predictions.p_first,
        inputs.preference,
        inputs.pair_weight,
        prompt,
        inputs.loaded.objectives,
        [inputs.rows.prompt_subset[i] for i in prompt],
    )
    priors = [member.weight_prior for member in members]
    return _with_spread(finding, priors, inputs.predictions.expected_weights)


def _with_spread(
    finding: Finding,
    priors: Sequence[nn.Module],
    expected_weights: Float[np.ndarray, "prompts objectives"],
) -> Finding:
    """Add how far E[w | x] spreads over prompts, and the learned scale where the prior has one."""
    if not finding.applies:
        return finding
    spread = np.std(expected_weights, axis=0)
    told = f" E[w] differs between prompts by {spread.max():.3f} at most (standard deviation)"
    detail = {**finding.detail, "spread_over_prompts": spread}
    taus = [prior.tau.item() for prior in priors if isinstance(prior, ShrinkageMap)]
    if taus:  # one for each member of an ensemble
        detail["tau"] = float(np.mean(taus))
        told += f"; the learned scale of the map from prompt to weights is {detail['tau']:.3f}"
    return replace(finding, verdict=f"{finding.verdict}{told}.", detail=detail)


CHECK: Final[Diagnostic] = Diagnostic(
    find_weights,
    question="How well do preferences tell the weights?",
    group="constant_data",
    costly=False,
)

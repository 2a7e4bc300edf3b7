"""Check ``gaps`` (spec 4.2, 4.3): what do network and family of the guide lose?"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.diagnostics.checks.applies import joint_rankings, no_posterior
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import Finding, is_alarm, not_applicable, smallest
from vrm_pyro.diagnostics.metrics.clustered_tests import mean_test
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.vrm import VRM
from vrm_pyro.prediction.posterior.evidence import log_evidence
from vrm_pyro.prediction.posterior.refine import refine

NAME: Final = "gaps"
TOLERANCE: Final = 0.3
"""Nats a prompt that each gap may have; good guides lose .05 to .2."""
REFINE_STEPS: Final = 60
REFINE_NODES: Final = 64
EVIDENCE_DRAWS: Final = 512
ADVICE: Final = {
    "evidence gap": "Train longer, or take a guide that can be refined to see which part it is.",
    "amortization gap": "The network falls short: train longer, give the guide more hidden units, "
    "or refine prompt by prompt (vrm_pyro.prediction.posterior.refine).",
    "approximation gap": "The family falls short: take FullCovarianceGuide or FlowGuide.",
}


def gaps(
    elbo: NDArray[Any],
    evidence: NDArray[Any],
    evidence_error: NDArray[Any],
    refined: NDArray[Any] | None = None,
) -> Finding:
    """Return how far the ELBO is below the log evidence, in two parts.

    - amortization gap = ELBO(q refined for the prompt) - ELBO(guide): a better network closes it
    - approximation gap = log evidence - ELBO(refined): only a richer family closes it

    The alarm tests over prompts that the mean of each gap is at most :data:`TOLERANCE`, and that
    the ELBO is not above the evidence, as it would be with a weight on the KL below 1.

    >>> evidence = -np.linspace(1.0, 3.0, 50)
    >>> found = gaps(evidence - 0.1, evidence, np.full(50, 0.01))
    >>> found.verdict, found.alarm
    ('evidence gap 0.100 nats a prompt.', False)

    Args:
        elbo: Of the guide, nats, shape (P,).
        evidence: log p(outcomes | texts), shape (P,).
        evidence_error: Its Monte Carlo error, shape (P,).
        refined: ELBO after refinement prompt by prompt, (P,); None where it cannot be refined.
    """
    gap = np.asarray(evidence, np.float64) - elbo
    whole = mean_test(gap)
    parts: dict[str, NDArray[np.float64]] = {"evidence gap": gap}
    if refined is not None:
        parts |= {"amortization gap": refined - elbo, "approximation gap": evidence - refined}
    # Without refinement the two parts are one number, which gets both tolerances.
    judged = {k: v for k, v in parts.items() if refined is None or k != "evidence gap"}
    tolerance = TOLERANCE if refined is not None else 2 * TOLERANCE
    tests = {k: mean_test(v, tolerance).p_above for k, v in judged.items()}
    above = _above_evidence(gap, np.asarray(evidence_error, np.float64))
    p_value = smallest([*tests.values(), above])
    alarm = is_alarm(p_value)
    text = ", ".join(f"{k} {mean_test(v).value:.3f}" for k, v in parts.items())
    verdict = f"{text} nats a prompt."
    advice = []
    number = len(judged) + 1
    if number * above < 0.01:
        verdict += " The ELBO is above the log evidence, which no bound can be."
        advice.append(
            "A weight on the KL below 1 (model.kl_weights, kl_features) or free bits are no ELBO: "
            "report it at weight 1."
        )
    for name, p in tests.items():
        if number * p < 0.01:
            verdict += f" The {name} is above {tolerance:g}."
            advice.append(ADVICE[name])
    return Finding(
        NAME, whole.value, "nats a prompt", whole.standard_error, p_value, alarm, verdict,
        " ".join(advice),
        detail={
            "tolerance": tolerance, "num_prompts": len(gap), "p_above_evidence": above,
            "p_values": tests,
            "parts": {
                k: {
                    "mean": float(v.mean()), "standard_error": mean_test(v).standard_error,
                    "quantiles": {f"{q:g}": float(np.quantile(v, q)) for q in (0.1, 0.5, 0.9)},
                }
                for k, v in parts.items()
            },
            "evidence_error_median": float(np.median(evidence_error)),
        },
    )  # fmt: skip


def _above_evidence(gap: NDArray[np.float64], error: NDArray[np.float64]) -> float:
    """Return the p-value of the mean ELBO not being above the mean evidence.

    A difference within three Monte Carlo errors of the evidence counts as none: if the gap were
    nearly the same for all prompts, rounding alone would be significant.
    """
    test = mean_test(gap)
    if math.isnan(test.p_below):
        return math.nan
    noise = math.sqrt(float((error**2).sum())) / len(gap)
    if test.value >= -3 * noise - 1e-6:
        return 1.0
    return test.p_below


def find_gaps(inputs: CheckInputs) -> Finding:
    """Evidence, amortization and approximation gap."""
    if reason := no_posterior(inputs):
        return not_applicable(NAME, reason)
    model = inputs.vrm
    assert model is not None
    statistics = inputs.draws.groups["sample_stats"]
    elbo = np.asarray(statistics["elbo"])
    if not model.guide.gaussian or joint_rankings(inputs) or len(inputs.loaded.members) > 1:
        evidence = elbo + np.asarray(statistics["evidence_gap"])
        return gaps(elbo, evidence, np.asarray(statistics["evidence_se"]))

    def measure(model: VRM, batch: FeatureBatch, conditionals: Conditionals) -> Finding:
        found = refine(model, batch, conditionals, REFINE_STEPS, REFINE_NODES)
        # The refined q proposes better.
        model.guide = found.guide
        evidence = log_evidence(model, batch, conditionals, EVIDENCE_DRAWS, inputs.seed)
        return gaps(
            found.before.numpy(),
            evidence.log_prob.numpy(),
            evidence.standard_error.numpy(),
            found.after.numpy(),
        )

    return inputs.with_batch(measure, inputs.refined_prompts)[0]


CHECK: Final[Diagnostic] = Diagnostic(
    find_gaps,
    question="What do network and family of the guide lose?",
    group="sample_stats",
    costly=True,
)

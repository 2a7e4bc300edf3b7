"""Check ``sensitivity`` (spec 4.9): what depends on the priors, what on the outcomes?"""

import math
from typing import Final

from vrm_pyro.diagnostics.checks.applies import no_posterior
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import Finding, not_applicable
from vrm_pyro.diagnostics.metrics.power_scaling import MIN_DRAWS
from vrm_pyro.diagnostics.sensitivity.indices import LIKELIHOOD, PRIOR
from vrm_pyro.diagnostics.sensitivity.measure import Sensitivity, sensitivity
from vrm_pyro.diagnostics.sensitivity.summary import THRESHOLD, component_rows, diagnosis_rows

NAME: Final = "sensitivity"


def dependence(found: Sensitivity, threshold: float = THRESHOLD) -> Finding:
    """Return how many quantities move when priors or outcomes are raised to a power.

    No alarm: the index has a threshold but no null distribution, and the posterior of one prompt
    may well depend on its prior.

    Args:
        found: What :func:`vrm_pyro.diagnostics.sensitivity.measure.sensitivity` returned.
        threshold: Index that counts as sensitive.
    """
    components = [row for row in component_rows(found, threshold) if row.objective is None]
    diagnoses = [row for row in diagnosis_rows(found, threshold) if row.objective is None]
    share = {(row.quantity, row.component): row.flagged for row in components}
    first = diagnoses[0].quantity
    parts = [
        f"{row.quantity}: prior and outcomes disagree or know equally much on {row.conflict:.0%}, "
        f"prior alone speaks on {row.strong_prior:.0%}"
        for row in diagnoses
        if row.conflict is not None and row.strong_prior is not None
    ]
    value = share[(first, PRIOR)]
    return Finding(
        NAME, math.nan if value is None else value, f"share of {first} sensitive to the prior",
        None, None, None,
        "; ".join(parts) + "." if parts else "the guide's draws are too unreliable to say.",
        detail={
            "threshold": threshold, "num_draws": found.num_draws,
            "sensitive_to_outcomes": share[(first, LIKELIHOOD)],
            "components": [row._asdict() for row in components],
            "diagnoses": [row._asdict() for row in diagnoses],
        },
    )  # fmt: skip


def find_sensitivity(inputs: CheckInputs) -> Finding:
    """Power-scaling sensitivity."""
    if reason := no_posterior(inputs):
        return not_applicable(NAME, reason)
    if inputs.num_draws < MIN_DRAWS:
        return not_applicable(NAME, f"{inputs.num_draws} draws; it takes {MIN_DRAWS} (--draws).")
    return dependence(sensitivity(inputs.tree, seed=inputs.seed))


CHECK: Final[Diagnostic] = Diagnostic(
    find_sensitivity,
    question="What depends on the priors, what on the outcomes?",
    group="log_prior, sample_stats",
    costly=True,
)

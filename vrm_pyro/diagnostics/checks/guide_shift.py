"""Check ``guide_shift`` (spec 4.12): are some outcomes unlike those trained on?"""

from typing import Final

import numpy as np

from vrm_pyro.diagnostics.checks.applies import no_posterior
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs, Floats
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import Finding, not_applicable
from vrm_pyro.diagnostics.checks.shift import prompt_means, shift
from vrm_pyro.diagnostics.metrics.power_scaling import MIN_DRAWS, smooth

NAME: Final = "guide_shift"


def find_guide_shift(inputs: CheckInputs) -> Finding:
    """Ranks of k-hat and of KL(q || p), by subset or against training rows."""
    if reason := no_posterior(inputs):
        return not_applicable(NAME, reason)
    if inputs.num_draws < MIN_DRAWS:
        return not_applicable(NAME, f"it takes {MIN_DRAWS} draws (--draws).")
    reference = inputs.reference
    return shift(
        _of_guide(inputs),
        inputs.some.prompt_subset,
        None if reference is None else _of_guide(reference),
        name=NAME,
    )


def _of_guide(inputs: CheckInputs) -> dict[str, Floats]:
    statistics, some = inputs.draws.groups["sample_stats"], inputs.some
    responses = np.asarray(some.source.response_prompt)
    kl_z = prompt_means(np.asarray(statistics["kl_features_guide"]), responses, some.num_prompts)
    return {
        "k-hat": smooth(np.asarray(statistics["log_weight"], np.float64)).khat,
        "KL(q(w) || p(w))": np.asarray(statistics["kl_weights_guide"]),
        "KL(q(z) || p(z))": kl_z,
    }


CHECK: Final[Diagnostic] = Diagnostic(
    find_guide_shift,
    question="Are some outcomes unlike those trained on?",
    group="sample_stats",
    costly=True,
)

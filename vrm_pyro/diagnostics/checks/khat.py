"""Check ``khat`` (spec 4.1): does the guide cover the posterior?"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vrm_pyro.diagnostics.checks.applies import no_posterior
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import Finding, is_alarm, not_applicable
from vrm_pyro.diagnostics.metrics.power_scaling import MIN_DRAWS, khat_limit, smooth

NAME: Final = "khat"
ALLOWED: Final = 0.1
"""Share of prompts above the limit that still counts as a good guide."""


def khat(log_weight: NDArray[Any]) -> Finding:
    """Return the share of prompts whose importance weights have too heavy a tail.

    The weights are exact posterior over guide at draws of the guide: where the guide is too
    narrow or misplaced, a few draws carry all the weight and k-hat is large. The alarm tests that
    at most :data:`ALLOWED` of all prompts are above the limit (binomial).

    >>> found = khat(np.random.default_rng(0).normal(0, 0.3, (400, 25)))  # nearly equal weights
    >>> found.value, found.alarm
    (0.0, False)

    Args:
        log_weight: log p(outcomes, w, z) - log q(w, z), shape (draws, prompts).
    """
    found = smooth(np.asarray(log_weight, np.float64)).khat
    limit = khat_limit(len(log_weight))
    bad = found > limit
    size, share = len(found), float(bad.mean())
    p_value = float(stats.binom.sf(bad.sum() - 1, size, ALLOWED))
    alarm = is_alarm(p_value)
    middle = float(np.median(found))
    verdict = (
        f"k-hat is above {limit:.2f} on {share:.0%} of {size} prompts (median {middle:.2f}): "
        + (
            "the guide misses parts of the posterior."
            if alarm
            else "the guide covers the posterior."
        )
    )
    advice = (
        "Train longer or with a wider guide (FullCovarianceGuide); look at the gaps for whether "
        "network or family falls short, and do not use importance weights on these prompts."
        if alarm
        else ""
    )
    return Finding(
        NAME, share, "share of prompts", float(np.sqrt(share * (1 - share) / size)), p_value,
        alarm, verdict, advice,
        detail={
            "limit": limit, "allowed": ALLOWED, "median": middle, "num_prompts": size,
            "num_draws": len(log_weight), "quantiles": _quantiles(found), "khat": found,
        },
    )  # fmt: skip


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    # By rank: interpolation would spread an infinite k-hat.
    levels = (0.1, 0.5, 0.9)
    picked = np.quantile(values, levels, method="inverted_cdf")
    return {f"{level:g}": float(value) for level, value in zip(levels, picked, strict=True)}


def find_khat(inputs: CheckInputs) -> Finding:
    """Pareto k-hat of the guide, prompt by prompt."""
    if reason := no_posterior(inputs):
        return not_applicable(NAME, reason)
    if inputs.num_draws < MIN_DRAWS:
        return not_applicable(
            NAME, f"{inputs.num_draws} draws; it takes {MIN_DRAWS}, better 1000 (--draws)."
        )
    return khat(inputs.draws.groups["sample_stats"]["log_weight"])


CHECK: Final[Diagnostic] = Diagnostic(
    find_khat,
    question="Does the guide cover the posterior?",
    group="sample_stats",
    costly=True,
)

"""Check ``prior`` (spec 4.9): how far do outcomes move the prior, and all one way?"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrm_pyro import names
from vrm_pyro.diagnostics.checks.applies import no_outcome_posterior
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import LEVEL, Finding, is_alarm, not_applicable, smallest
from vrm_pyro.diagnostics.metrics.clustered_tests import MIN_PROMPTS, mean_test, prompt_sums
from vrm_pyro.diagnostics.metrics.power_scaling import MIN_DRAWS, khat_limit, smooth

NAME: Final = "prior"
NUM_BINS: Final = 20
BOTH: Final = ("prior", "posterior")


class PriorAndPosterior(NamedTuple):
    """Draws of one quantity of some items, before and after their outcomes.

    Attributes:
        prior: Shape (S, items).
        posterior: Draws of the guide, shape (S, items).
        prompt: Prompt of each item, shape (items,).
        weight: Importance weights of the guide's draws towards the exact posterior, with sum 1
            over the draws, shape (S, items).
    """

    prior: NDArray[Any]
    posterior: NDArray[Any]
    prompt: NDArray[np.int64]
    weight: NDArray[Any]


def prior_overlap(quantities: Mapping[str, PriorAndPosterior], tempered: bool = False) -> Finding:
    """Return the overlap of prior and posterior, and test that the prior is right on average.

    If outcomes come from the model, the posterior averaged over them is the prior: single prompts
    move, but not all one way. So ranks of posterior draws among prior draws are uniform on
    average. The alarm tests for each quantity that their mean over prompts is 1/2 (location) and
    their variance 1/12 (spread): a prior that is misplaced, too tight or too wide is moved the
    same way by every prompt. Importance weights correct the guide's own errors.

    Args:
        quantities: Draws by name, such as each weight and each score.
        tempered: Whether the outcomes count with a power other than 1. The posterior then moves
            too little or too much for its average to have the prior's variance, and the mean
            alone is tested.
    """
    rows: dict[str, dict[str, float]] = {}
    tests: dict[tuple[str, str], float] = {}
    for name, (prior, posterior, prompt, weight) in quantities.items():
        if len(np.unique(prompt)) < MIN_PROMPTS:
            continue
        before, after = np.asarray(prior, np.float64), np.asarray(posterior, np.float64)
        # Ranks are bounded, so that one extreme prompt cannot dominate a mean.
        place = _ranks(before, after) - 0.5
        location = mean_test(prompt_sums((weight * place).sum(0), prompt))
        squares = (weight * place**2).sum(0) - 1 / 12
        scale = mean_test(prompt_sums(squares, prompt))
        tests[(name, "location")] = location.p_value
        if not tempered:
            tests[(name, "spread")] = scale.p_value
        rows[name] = {
            "overlap": float(overlap(before, after, weight).mean()),
            "shift": location.value, "shift_se": location.standard_error,
            "p_location": location.p_value, "squares": scale.value,
            "squares_se": scale.standard_error, "p_spread": scale.p_value,
        }  # fmt: skip
    if not rows:
        return not_applicable(NAME, f"fewer than {MIN_PROMPTS} prompts with outcomes.")
    p_value = smallest(tests.values())
    alarm = is_alarm(p_value)
    number = len(tests)
    off = [
        f"{name}: {_direction(rows[name], kind)}"
        for (name, kind), p in tests.items()
        if p < LEVEL / number
    ]
    overlaps = [row["overlap"] for row in rows.values()]
    value = float(np.mean(overlaps))
    verdict = f"prior and posterior overlap by {value:.0%} on average over {len(rows)} quantities"
    verdict += "; all prompts move the prior the same way: " if alarm else "; "
    verdict += "; ".join(off) if alarm else "outcomes do not move the prior one way"
    advice = (
        "The prior given the text does not fit these rows: train on rows like them; in training, "
        "widen the prior or let it read the text (Conditional*Prior)."
    )
    return Finding(
        NAME, value, "mean overlap of prior and posterior", _error(overlaps), p_value,
        alarm, verdict + ".", advice if alarm else "",
        detail={"quantities": rows},
    )  # fmt: skip


def _ranks(prior: NDArray[np.float64], posterior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the place of each posterior draw among the prior draws of its item, in [0, 1]."""
    ordered = np.sort(prior, axis=0)
    found = [
        np.searchsorted(ordered[:, item], posterior[:, item]) for item in range(prior.shape[1])
    ]
    return (np.stack(found, axis=1) + 0.5) / (len(prior) + 1)


def overlap(
    first: NDArray[np.float64], second: NDArray[np.float64], weight: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the common area of two densities, in [0, 1], shape (items,).

    By histograms of 20 bins over the range of both: equal distributions reach 1 up to the noise
    of the draws.

    >>> draws = np.arange(100.0)[:, None]
    >>> overlap(draws, draws, np.full((100, 1), 0.01)).round(2)
    array([1.])

    Args:
        first: Draws from one distribution, shape (S, items).
        second: Draws from the other, (S, items).
        weight: Weights of the second draws, (S, items), with sum 1 over the draws.
    """
    low = np.minimum(first.min(0), second.min(0))
    width = np.maximum(first.max(0), second.max(0)) - low
    width = np.where(width > 0, width, 1.0)
    items = np.arange(first.shape[1])

    def histogram(draws: NDArray[np.float64], mass: NDArray[Any]) -> NDArray[np.float64]:
        place = np.minimum(((draws - low) / width * NUM_BINS).astype(np.int64), NUM_BINS - 1)
        flat = np.bincount(
            (place + NUM_BINS * items).ravel(), mass.ravel(), minlength=NUM_BINS * len(items)
        )
        return flat.reshape(len(items), NUM_BINS).astype(np.float64)

    equal = np.full(first.shape, 1 / len(first))
    return np.asarray(np.minimum(histogram(first, equal), histogram(second, weight)).sum(1))


def _error(values: list[float]) -> float:
    return float(np.std(values) / len(values) ** 0.5)


def _direction(row: Mapping[str, float], kind: str) -> str:
    if kind == "location":
        return "prior too low" if row["shift"] > 0 else "prior too high"
    return "prior too tight" if row["squares"] > 0 else "prior too wide"


def find_prior(inputs: CheckInputs) -> Finding:
    """Overlap of prior and posterior."""
    if reason := no_outcome_posterior(inputs):
        return not_applicable(NAME, reason)
    if inputs.num_draws < MIN_DRAWS:
        return not_applicable(NAME, f"it takes {MIN_DRAWS} draws (--draws).")
    groups, loaded = inputs.draws.groups, inputs.loaded
    responses = np.asarray(inputs.some.source.response_prompt)
    rated = np.isfinite(np.asarray(inputs.some.source.ratings)).any(1)
    informed = np.union1d(inputs.some.pair_prompt, responses[rated] if loaded.rated else [])
    smoothed = smooth(np.asarray(groups["sample_stats"]["log_weight"], np.float64))
    reliable = np.flatnonzero(smoothed.khat <= khat_limit(inputs.num_draws))
    prompts = np.intersect1d(informed, reliable).astype(np.int64)
    if len(prompts) < len(informed) / 2:
        return not_applicable(
            NAME,
            "the guide's draws do not cover the posterior of most prompts; see khat.",
        )
    items = np.flatnonzero(np.isin(responses, prompts))
    quantities = {}
    for kind, site, rows, owner in (
        ("weight", names.WEIGHTS, prompts, prompts),
        ("score", names.SCORES, items, responses[items]),
    ):
        before, after = (np.asarray(groups[group][site])[:, rows] for group in BOTH)
        if kind == "weight" and len(loaded.objectives) == 1:
            continue  # w is 1 before and after
        weight = smoothed.weights[:, owner]
        for k, name in enumerate(loaded.objectives):
            quantities[f"{kind} {name}"] = PriorAndPosterior(
                before[..., k], after[..., k], owner, weight
            )
    tempered = loaded.rated and loaded.config.rating_power != 1
    return prior_overlap(quantities, tempered)


CHECK: Final[Diagnostic] = Diagnostic(
    find_prior,
    question="How far do outcomes move the prior, and one way?",
    group="prior, posterior",
    costly=True,
)

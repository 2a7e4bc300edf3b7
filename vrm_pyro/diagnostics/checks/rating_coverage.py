"""Check ``rating_coverage``: do intervals hold held-out ratings as often as they say?"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import Finding, is_alarm, not_applicable, smallest
from vrm_pyro.diagnostics.checks.rating_pit import rated_draws, steps
from vrm_pyro.diagnostics.checks.simulated import rank_limits
from vrm_pyro.diagnostics.metrics.clustered_tests import MIN_PROMPTS
from vrm_pyro.diagnostics.metrics.pair_metrics import Estimate, cluster_mean

NAME: Final = "rating_coverage"
LEVELS: Final = (0.5, 0.8, 0.9)
RIGHT: Final = (0.85, 0.95)
"""Coverage of 90% intervals that counts as right: an alarm needs evidence of being outside."""


class Held(NamedTuple):
    """Which ratings of an objective lie inside their intervals.

    Attributes:
        shares: Share of each rating inside the interval of each level, shape (levels, n): 0 or 1,
            and between for a rating whose equals among the draws are split by an end.
        prompt: Prompt of each rating, shape (n,).
    """

    shares: NDArray[np.float64]
    prompt: NDArray[np.int64]

    def test(self, level: int, right: tuple[float, float] = RIGHT) -> tuple[Estimate, float]:
        """Return the coverage at a level, by its index, and the p-value of being in ``right``."""
        inside = self.shares[level]
        groups = len(np.unique(self.prompt))
        found = cluster_mean(inside, np.ones(len(inside)), self.prompt)
        if groups < MIN_PROMPTS:
            return found, float("nan")
        p_values = []
        for sign, limit in zip((1, -1), right, strict=True):
            # Coverage near 1 has no spread left to estimate: at least that of the limit.
            error = max(found.standard_error, (limit * (1 - limit) / len(inside)) ** 0.5)
            t = sign * (found.value - limit) / error
            p_values.append(float(stats.t.cdf(t, groups - 1)))
        return found, smallest(p_values)


def rating_coverage(
    draws: NDArray[Any],
    ratings: NDArray[Any],
    response_prompt: NDArray[Any],
    objectives: Sequence[str],
    differences: bool = False,
) -> Finding:
    """Compare central predictive intervals with the observed ratings that they should hold.

    A predictive interval takes z from its distribution given the text, and adds the noise tau of
    a rating: it is about a rating that nobody has seen, not about the score. All observed ratings
    count, with standard errors over prompts. The alarm tests, one-sided on either side, whether
    90% intervals hold less than 85% or more than 95%, for each objective and for all together.

    >>> rng = np.random.default_rng(0)
    >>> draws, observed = rng.normal(size=(500, 400, 1)), rng.normal(size=(400, 1))
    >>> found = rating_coverage(draws, observed, np.arange(400), ("clarity",))
    >>> abs(found.value - 0.9) < 3 * found.uncertainty, found.alarm
    (True, False)

    Args:
        draws: Ratings drawn given texts alone, raw units, shape (S, R, K).
        ratings: Observed ratings, NaN where missing, shape (R, K).
        response_prompt: Prompt of each response, shape (R,).
        objectives: Names of the objectives.
        differences: Take the difference to another rated response of the prompt instead: for
            ratings that are known up to a level of their prompt.
    """
    prompt = np.asarray(response_prompt, np.int64)
    ratings, draws = np.asarray(ratings, np.float32), np.asarray(draws, np.float32)
    held: dict[str, Held] = {}
    for k, name in enumerate(objectives):
        rows = np.flatnonzero(~np.isnan(ratings[:, k]))
        truth, drawn = ratings[rows, k], draws[:, rows, k]
        if differences:
            _, first, group = np.unique(prompt[rows], return_index=True, return_inverse=True)
            other = np.setdiff1d(np.arange(len(rows)), first)
            start = first[group[other]]
            truth, drawn = truth[other] - truth[start], drawn[:, other] - drawn[:, start]
            rows = rows[other]
        if len(np.unique(prompt[rows])) >= MIN_PROMPTS:
            held[name] = Held(_inside(*steps(truth, drawn, ratings)), prompt[rows])
    if not held:
        return not_applicable(NAME, f"no objective is rated on {MIN_PROMPTS} prompts.")
    whole = Held(*(np.concatenate(parts, axis=-1) for parts in zip(*held.values(), strict=True)))
    tests = {name: found.test(-1) for name, found in held.items()}
    value, p_whole = whole.test(-1)
    p_values = {name: p for name, (_, p) in tests.items()}
    p_value = smallest([p_whole, *p_values.values()])
    alarm = is_alarm(p_value)
    size = len(whole.prompt)
    others = ", ".join(
        f"{level:.0%} intervals {whole.shares[i].mean():.1%}"
        for i, level in enumerate(LEVELS[:-1])
    )
    observed = {name: found.value for name, (found, _) in tests.items()}
    off = max(observed, key=lambda name: abs(observed[name] - LEVELS[-1]))
    verdict = (
        f"{LEVELS[-1]:.0%} intervals of a new rating hold {value.value:.1%} (+- "
        f"{value.standard_error:.1%}) of the {size:,} ratings in these rows, {others} "
        f"(furthest off: {off}, {observed[off]:.1%})."
    )
    advice = ""
    if alarm:
        far = [name for name, p in p_values.items() if is_alarm(p * (len(p_values) + 1))]
        narrow = [name for name in far if observed[name] < RIGHT[0]]
        wide = [name for name in far if observed[name] > RIGHT[1]]
        if not far:
            (narrow if value.value < RIGHT[0] else wide).append("all objectives together")
        verdict += _named(" Too narrow: ", narrow) + _named(" Too wide: ", wide)
        advice = _advice(bool(narrow), bool(wide))
    return Finding(
        NAME, value.value, f"coverage of {LEVELS[-1]:.0%} intervals of ratings",
        value.standard_error, p_value, alarm, verdict, advice,
        detail={
            "levels": list(LEVELS), "right": list(RIGHT), "of_differences": differences,
            "num_ratings": size, "num_prompts": len(np.unique(whole.prompt)),
            "all": _row(whole), "quantities": {name: _row(found) for name, found in held.items()},
        },
    )  # fmt: skip


def _inside(truth: NDArray[Any], drawn: NDArray[Any]) -> NDArray[np.float64]:
    """Return the share of each rating inside the interval of each level, (levels, n)."""
    low, high = rank_limits(truth, drawn)
    ends = [((1 - level) / 2, (1 + level) / 2) for level in LEVELS]
    common = [np.minimum(high, upper) - np.maximum(low, lower) for lower, upper in ends]
    return np.maximum(np.stack(common), 0) / (high - low)


def _row(held: Held) -> dict[str, Any]:
    found: dict[str, Any] = {"num_ratings": len(held.prompt), "p_value": held.test(-1)[1]}
    for i, level in enumerate(LEVELS):
        estimate, _ = held.test(i)
        found[f"{level:g}"] = dict(zip(("observed", "standard_error"), estimate, strict=True))
    return found


def _named(head: str, names: Sequence[str]) -> str:
    return f"{head}{', '.join(names)}." if names else ""


def _advice(narrow: bool, wide: bool) -> str:
    advice = []
    if narrow:
        advice.append(
            "Too narrow: model.recalibrate true sets the spreads by validation rows. An ensemble "
            "adds what the training rows leave open."
        )
    if wide:
        advice.append(
            "Too wide: the spread of ratings is a setting here unless it is learned "
            "(model.rating_power 1, and learn_scale true of model.rating_likelihood)."
        )
    return " ".join(advice)


def find_rating_coverage(inputs: CheckInputs) -> Finding:
    """Coverage of observed ratings by intervals given texts alone."""
    found = rated_draws(inputs)
    if isinstance(found, str):
        return not_applicable(NAME, found)
    prompt = np.asarray(inputs.some.source.response_prompt)
    return rating_coverage(
        found.drawn, found.observed, prompt, inputs.loaded.objectives, found.differences
    )


CHECK: Final[Diagnostic] = Diagnostic(
    find_rating_coverage,
    question="Do intervals hold the ratings of these rows as often as they say?",
    group="prior_predictive, observed_data",
    costly=True,
)

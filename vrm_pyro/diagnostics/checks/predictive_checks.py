"""Check ``predictive`` (spec 4.7): do drawn outcomes look like observed ones, by subset?"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vrm_pyro import names
from vrm_pyro.diagnostics.checks.applies import no_pairs
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import LEVEL, Finding, is_alarm, not_applicable, smallest
from vrm_pyro.diagnostics.metrics.clustered_tests import MIN_PROMPTS
from vrm_pyro.diagnostics.metrics.pair_metrics import accuracy_values

NAME: Final = "predictive"
ALL: Final = "all rows"
WIN_RATE: Final = "win rate of the predicted winner"


class Outcomes(NamedTuple):
    """Outcomes of some rows, observed and drawn given the texts alone.

    Attributes:
        p_first: Predicted probability that the first is preferred, shape (N,).
        preference: Observed label, shape (N,).
        drawn_preference: Labels drawn, jointly within a prompt, shape (S, N).
        pair_prompt: Prompt of each pair, shape (N,).
        ratings: Observed ratings, raw units, NaN where missing, shape (R, K); None without.
        drawn_ratings: Ratings drawn, shape (S, R, K); None without.
        response_prompt: Prompt of each response, shape (R,).
        prompt_subset: Subset of each prompt, shape (P,); empty text for none.
        objectives: Names of the rated objectives.
    """

    p_first: NDArray[Any]
    preference: NDArray[Any]
    drawn_preference: NDArray[Any]
    pair_prompt: NDArray[np.int64]
    ratings: NDArray[Any] | None
    drawn_ratings: NDArray[Any] | None
    response_prompt: NDArray[np.int64]
    prompt_subset: Sequence[str]
    objectives: Sequence[str]


def predictive_checks(outcomes: Outcomes) -> Finding:
    """Compare statistics of observed outcomes with those of drawn ones, subset by subset.

    The win rate of the response that the model prefers, and mean and standard deviation of each
    rated objective. Drawn outcomes share w and z within a prompt, so their spread is the one that
    the model implies. Each statistic gets a two-sided p-value by Student's t from the draws, and
    the alarm is corrected for their number. Flipped labels in a subset show in its win rate,
    ratings on another scale in their mean or standard deviation.

    Args:
        outcomes: Observed and drawn.
    """
    rows: list[dict[str, Any]] = []
    for subset, prompts in _subsets(outcomes.prompt_subset):
        for name, observed, drawn in _statistics(outcomes, prompts):
            expected, spread = float(drawn.mean()), float(drawn.std(ddof=1))
            if not spread > 0:
                continue
            size = len(drawn)
            # The error of the mean of the draws adds to the spread of a new value.
            t = (observed - expected) / (spread * math.sqrt(1 + 1 / size))
            rows.append(
                {
                    "subset": subset, "statistic": name, "observed": observed,
                    "expected": expected, "expected_sd": spread, "z": t,
                    "p_value": 2 * float(stats.t.sf(abs(t), size - 1)),
                }
            )  # fmt: skip
    if not rows:
        return not_applicable(
            NAME, f"fewer than {MIN_PROMPTS} prompts, or no outcome that varies between draws."
        )
    p_value = smallest(float(row["p_value"]) for row in rows)
    alarm = is_alarm(p_value)
    far = [row for row in rows if row["p_value"] < LEVEL / len(rows)]
    worst = max(rows, key=lambda row: abs(row["z"]))
    shown = sorted(far, key=lambda row: -abs(row["z"]))[:3] or [worst]
    text = "; ".join(
        f"{row['statistic']} in {row['subset']}: {row['observed']:.3f}, expected "
        f"{row['expected']:.3f} +- {row['expected_sd']:.3f}"
        for row in shown
    )
    verdict = f"{len(far)} of {len(rows)} statistics are off. " + (
        f"Off: {text}." if far else f"Furthest: {text}."
    )
    advice = ""
    if alarm:
        wins = [row for row in far if row["statistic"] == WIN_RATE]
        advice = "Look at rows of that subset. "
        if wins:
            advice += (
                "A win rate below one half means flipped labels there; one between one half "
                "and the expected rate means wrong labels or texts unlike the training rows."
            )
        else:
            advice += (
                "Its ratings are on another scale or of another kind than the training rows', or "
                "their spread is fixed in the settings (learn_scale)."
            )
    return Finding(
        NAME, float(abs(worst["z"])), "largest distance in standard deviations", None, p_value,
        alarm, verdict, advice, detail={"statistics": rows},
    )  # fmt: skip


def _subsets(prompt_subset: Sequence[str]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield all prompts, then those of each subset with enough of them."""
    subsets = np.asarray(prompt_subset, dtype=object)
    if len(subsets) >= MIN_PROMPTS:
        yield ALL, np.ones(len(subsets), dtype=bool)
    held = sorted({str(name) for name in subsets if name})
    for name in held if len(held) > 1 or "" in subsets else []:
        inside = subsets == name
        if inside.sum() >= MIN_PROMPTS:
            yield name, inside


def _statistics(
    outcomes: Outcomes, prompts: NDArray[np.bool_]
) -> Iterator[tuple[str, float, NDArray[np.float64]]]:
    pairs = prompts[outcomes.pair_prompt]
    if pairs.any():
        p = outcomes.p_first[pairs]
        observed = accuracy_values(p, outcomes.preference[pairs]).mean()
        drawn = accuracy_values(p, outcomes.drawn_preference[:, pairs]).mean(1)
        yield WIN_RATE, float(observed), np.asarray(drawn, np.float64)
    if outcomes.ratings is None or outcomes.drawn_ratings is None:
        return
    responses = prompts[outcomes.response_prompt]
    for k, name in enumerate(outcomes.objectives):
        rated = responses & ~np.isnan(outcomes.ratings[:, k])
        if len(np.unique(outcomes.response_prompt[rated])) < MIN_PROMPTS:
            continue
        values = np.asarray(outcomes.ratings[rated, k], np.float64)
        made = np.asarray(outcomes.drawn_ratings[:, rated, k], np.float64)
        yield f"mean rating of {name}", float(values.mean()), made.mean(1)
        yield f"sd of ratings of {name}", float(values.std()), made.std(1)


def find_predictive(inputs: CheckInputs) -> Finding:
    """Observed outcomes against drawn ones, by subset."""
    some, model = inputs.some, inputs.vrm
    source = some.source
    if model is None:
        if reason := no_pairs(inputs):
            return not_applicable(NAME, reason)
        rng = np.random.default_rng(inputs.seed)
        p = inputs.predictions.p_first
        drawn = (rng.random((inputs.num_draws, len(p))) < p).astype(np.float32)
        return predictive_checks(
            Outcomes(
                p, inputs.preference, drawn, inputs.rows.pair_prompt, None, None,
                np.asarray(inputs.rows.source.response_prompt), inputs.rows.prompt_subset, (),
            )
        )  # fmt: skip
    groups = inputs.draws.groups
    observed, made = groups["observed_data"], groups[inputs.draws.predictive_group]
    constant = groups["constant_data"]
    empty = np.zeros(0)
    known = model.ratings is not None and inputs.loaded.config.rating_likelihood.levels_known
    return predictive_checks(
        Outcomes(
            np.asarray(groups["sample_stats"].get("p_first", empty)),
            np.asarray(observed.get(names.PREFERENCE, empty)),
            np.asarray(made.get(names.PREFERENCE, np.zeros((inputs.num_draws, 0)))),
            np.asarray(constant.get("pair_prompt", np.zeros(0, np.int64))),
            observed.get(names.RATING) if known else None,
            made.get(names.RATING) if known else None,
            np.asarray(source.response_prompt),
            some.prompt_subset,
            inputs.loaded.objectives,
        )
    )


CHECK: Final[Diagnostic] = Diagnostic(
    find_predictive,
    question="Do drawn outcomes look like the observed ones, by subset?",
    group="prior_predictive, observed_data",
    costly=True,
)

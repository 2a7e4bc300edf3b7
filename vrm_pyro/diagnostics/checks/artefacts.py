"""Check ``length``: do rewards depend on length or position more than labels do?"""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vrm_pyro.diagnostics.checks.applies import no_pairs
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs, Floats
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import LEVEL, Finding, is_alarm, not_applicable, smallest
from vrm_pyro.diagnostics.metrics.clustered_tests import MIN_PROMPTS, residuals_vanish

NAME: Final = "length"


def artefacts(
    length_difference: NDArray[Any],
    differences: Mapping[str, NDArray[Any]],
    p_first: NDArray[Any],
    preference: NDArray[Any],
    weight: NDArray[Any],
    prompt: NDArray[Any],
    rating_difference: NDArray[Any] | None = None,
) -> Finding:
    """Return partial correlations with length, and test that length is used as labels use it.

    Correlates each difference (reward, each score, each feature) with the difference in log
    length, given the label and, where rated, the rating differences. A model that likes length is
    no fault if people do. The alarm tests that label minus prediction is unrelated to the
    difference in length and, unless every row lists the preferred response first, to the position.

    Args:
        length_difference: log length of the first response less that of the second, shape (N,).
        differences: First less second response, by name, each (N,), the reward first.
        p_first: Predicted probability that the first is preferred, shape (N,).
        preference: Observed, shape (N,).
        weight: Weight of each pair, shape (N,).
        prompt: Prompt of each pair, shape (N,).
        rating_difference: Differences of ratings, NaN where missing, shape (N, K); None without.
    """
    used = np.asarray(weight) > 0
    length = np.asarray(length_difference, np.float64)[used]
    c, w = np.asarray(preference, np.float64)[used], np.asarray(weight, np.float64)[used]
    prompt = np.asarray(prompt)[used]
    groups = len(np.unique(prompt))
    if groups < MIN_PROMPTS or not np.ptp(length) > 0:
        return not_applicable(
            NAME,
            f"{groups} prompts with a comparison (it takes {MIN_PROMPTS}), or all responses are "
            "of one length.",
        )
    p = np.asarray(p_first, np.float64)[used]
    residual = w * (c - p)
    by_length = residuals_vanish((w * length)[:, None], c - p, p, prompt)
    sided = bool((c > 0.5).any() and (c < 0.5).any())
    by_position = residuals_vanish(w[:, None], c - p, p, prompt) if sided else math.nan
    p_value = smallest([by_length, by_position])
    alarm = is_alarm(p_value)
    # The order of a pair is a convention: 2 c - 1 changes sign with it as the others do.
    given = [2 * c - 1, *_ratings(rating_difference, used)]
    rows = {
        name: _partial(np.asarray(values, np.float64)[used], length, np.stack(given, 1), groups)
        for name, values in differences.items()
    }
    first = next(iter(rows))
    rest = {name: row for name, row in rows.items() if name != first}
    verdict = (
        f"partial correlation of {first} with length {rows[first]['correlation']:+.2f} "
        f"+- {rows[first]['standard_error']:.2f} given the labels"
    )
    if rest:
        most = max(rest, key=lambda name: abs(rest[name]["correlation"]))
        verdict += f"; most in {most} ({rest[most]['correlation']:+.2f})"
    verdict += (
        "."
        if sided
        else "; position: rows list the preferred response first, so it cannot be seen."
    )
    advice = ""
    number = 2 if sided else 1
    if number * by_length < LEVEL:
        much = float((residual * length).sum()) < 0
        verdict += f" The model {'overrates' if much else 'underrates'} length."
        advice = (
            "Balance or reweight training pairs by length, or take lengths into the ratings; "
            "evaluate says what length alone predicts."
        )
    if sided and number * by_position < LEVEL:
        verdict += " Labels favour a position, which the model cannot see."
        advice += " Show raters each pair in both orders, or list responses in random order."
    return Finding(
        NAME, rows[first]["correlation"], f"partial correlation of {first} with log length",
        rows[first]["standard_error"], p_value, alarm, verdict, advice.strip(),
        detail={
            "partial_correlations": rows, "p_length": by_length, "p_position": by_position,
            "num_prompts": groups, "num_pairs": len(length),
        },
    )  # fmt: skip


def _ratings(difference: NDArray[Any] | None, used: NDArray[np.bool_]) -> list[Floats]:
    """Return the rated columns as regressors, 0 where a rating is missing."""
    if difference is None:
        return []
    values = np.asarray(difference, np.float64)[used]
    return [np.nan_to_num(column) for column in values.T if np.isfinite(column).any()]


def _partial(values: Floats, length: Floats, given: Floats, groups: int) -> dict[str, float]:
    """Return the correlation of the residuals of both after regression on ``given``.

    Without intercept: swapping the two responses changes every sign and must change nothing else.
    The standard error counts prompts, not pairs.
    """

    def rest(of: Floats) -> Floats:
        return np.asarray(of - given @ np.linalg.lstsq(given, of, rcond=None)[0])

    x, y = rest(values), rest(length)
    norm = math.sqrt(float((x**2).sum() * (y**2).sum()))
    correlation = float((x * y).sum()) / norm if norm > 0 else 0.0
    free = max(groups - given.shape[1] - 2, 1)
    bounded = min(max(correlation, -1 + 1e-12), 1 - 1e-12)
    error = (1 - correlation**2) / math.sqrt(free)
    z = math.atanh(bounded) * math.sqrt(free)
    return {
        "correlation": correlation,
        "standard_error": error,
        "p_value": 2 * float(stats.norm.sf(abs(z))),
    }


def find_length(inputs: CheckInputs) -> Finding:
    """Partial correlations of rewards, scores and features with length, and tests of both."""
    if reason := no_pairs(inputs):
        return not_applicable(NAME, reason)
    source, means = inputs.rows.source, inputs.means
    first, second = np.asarray(source.pair_first), np.asarray(source.pair_second)

    def difference(values: Floats) -> Floats:
        return np.asarray(values[first] - values[second])

    found = {"reward": difference(means.reward)}
    if means.scores is not None:
        scores = difference(means.scores)
        names = inputs.loaded.objectives
        found |= {f"score {n}": scores[:, k] for k, n in enumerate(names)}
    if inputs.predictions.expected_features is not None:
        features = difference(inputs.predictions.expected_features)
        found |= {f"feature {d}": features[:, d] for d in range(features.shape[1])}
    ratings = np.asarray(source.ratings, np.float64)
    return artefacts(
        difference(np.log1p(inputs.rows.lengths)),
        found,
        inputs.predictions.p_first,
        inputs.preference,
        inputs.pair_weight,
        inputs.rows.pair_prompt,
        difference(ratings) if ratings.shape[1] else None,
    )


CHECK: Final[Diagnostic] = Diagnostic(
    find_length,
    question="What do rewards owe to length and position?",
    group="posterior, constant_data",
    costly=False,
)

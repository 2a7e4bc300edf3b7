"""Check that the labels of a table are something a reward model can learn from."""

import warnings
from typing import Final

import numpy as np

from vrm_pyro.data.rows import PreferenceTable, check_label_identification
from vrm_pyro.diagnostics.metrics.length_baseline import length_baseline
from vrm_pyro.diagnostics.metrics.pair_metrics import Estimate, cluster_mean
from vrm_pyro.training.preflight.check import Check

LENGTH_LIMIT: Final = 0.6
CONTRADICTION_LIMIT: Final = 0.05
FEWEST: Final = 20


def check_labels(table: PreferenceTable) -> list[Check]:
    """Return the results of checks that need rows only, no model and no backbone."""
    if table.num_pairs == 0:
        return [
            Check(
                "labels",
                "fail",
                "the rows hold no comparison",
                'Add rows with "prompt", "chosen" and "rejected"; or rate single responses, and '
                "train with --config ratings.",
            )
        ]
    return [
        check_decided(table),
        check_contradictions(table),
        check_orientation_by_ratings(table),
        check_identification(table),
        check_length(table),
    ]


def check_decided(table: PreferenceTable) -> Check:
    """Check that enough labels prefer one response and have weight."""
    decided = (np.abs(table.preference - 0.5) > 1e-9) & (table.pair_weight > 0)
    share = float(decided.mean())
    first = float((table.preference[decided] > 0.5).mean()) if decided.any() else 0.0
    finding = (
        f"{table.num_pairs:,} comparisons of {len(np.unique(table.pair_prompt)):,} prompts, "
        f"{share:.0%} take a side, {first:.0%} of these for the one called chosen"
    )
    if share < 0.5:
        verdict = "fail" if share == 0 else "warn"
        return Check(
            "labels",
            verdict,  # type: ignore[arg-type]
            finding,
            "Ties (preference 0.5) and weight 0 teach nothing; is the column filled as meant?",
        )
    if first < 0.5:
        return Check(
            "labels",
            "warn",
            finding,
            "`preference` is the probability that *chosen* is preferred; is it turned around?",
        )
    return Check("labels", "ok", finding)


def check_contradictions(table: PreferenceTable) -> Check:
    """Check how often the same two responses have opposite labels."""
    low = np.minimum(table.pair_first, table.pair_second)
    high = np.maximum(table.pair_first, table.pair_second)
    _, pair = np.unique(np.stack([low, high]), axis=1, return_inverse=True)
    side = np.sign(table.preference - 0.5) * np.where(table.pair_first == low, 1, -1)
    positive = np.bincount(pair, side > 0)
    negative = np.bincount(pair, side < 0)
    share = float(((positive > 0) & (negative > 0))[pair].mean())
    finding = f"{share:.1%} of the comparisons are also there the other way around"
    if share > CONTRADICTION_LIMIT:
        return Check(
            "contradictions",
            "warn",
            finding,
            "Merge repeated votes into one row with a soft label in `preference`.",
        )
    return Check("contradictions", "ok", finding)


def check_orientation_by_ratings(table: PreferenceTable) -> Check:
    """Check that the preferred response tends to have the higher ratings."""
    if not table.has_ratings:
        return Check("orientation by ratings", "ok", "no ratings to compare with")
    gap = table.ratings[table.pair_first] - table.ratings[table.pair_second]
    both = ~np.isnan(gap)
    mean = np.where(both, gap, 0.0).sum(1) / np.maximum(both.sum(1), 1)
    used = np.flatnonzero(both.any(1) & (np.abs(mean) > 1e-9))
    if len(used) < FEWEST:
        return Check(
            "orientation by ratings",
            "ok",
            f"only {len(used)} comparisons with ratings of both sides: too few to tell",
        )
    agrees = np.where(mean[used] > 0, table.preference[used], 1 - table.preference[used])
    share = cluster_mean(agrees, table.pair_weight[used], table.pair_prompt[used])
    finding = f"the better rated response is preferred in {percent(share)} of {len(used):,}"
    if share.value + 2 * _error(share) < 0.5:
        return Check(
            "orientation by ratings",
            "fail",
            finding,
            "Labels or ratings seem to be turned around: is a low rating good, or are chosen and "
            "rejected exchanged?",
        )
    if share.value - 2 * _error(share) < 0.5:
        return Check(
            "orientation by ratings",
            "warn",
            finding,
            "Labels hardly follow the ratings; do both judge the same quality?",
        )
    return Check("orientation by ratings", "ok", finding)


def check_identification(table: PreferenceTable) -> Check:
    """Check that labels are not a function of the ratings (spec 1.1)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = check_label_identification(table)
    if found.num_pairs == 0 and not found.is_function:
        return Check("label identification", "ok", "no comparison has complete ratings")
    finding = found.finding
    if found.is_function:
        return Check(
            "label identification",
            "warn",
            f"{finding}: {caught[-1].message}",
            f"{found.identified(table.objectives)} Claim nothing else about weights from these "
            "rows, and drop or temper one of the two terms (model.supervision none, or a small "
            "model.rating_power).",
        )
    return Check("label identification", "ok", finding)


def check_length(table: PreferenceTable) -> Check:
    """Check the accuracy of the rule "the longer response wins"."""
    lengths = np.array([len(text) for text in table.responses])
    found = length_baseline(
        lengths[table.pair_first],
        lengths[table.pair_second],
        table.preference,
        table.pair_weight,
        table.pair_prompt,
    )
    rule, rate = max(
        ("longer", found.longest), ("shorter", found.shortest), key=lambda pair: pair[1].value
    )
    finding = f"the {rule} response wins in {percent(rate)}"
    if rate.value >= LENGTH_LIMIT:
        return Check(
            "length",
            "warn",
            finding,
            "A model below this has learned less than length. Report this rate beside every "
            "accuracy (evaluate does), and look at pairs of equal length.",
        )
    return Check("length", "ok", finding)


def percent(rate: Estimate) -> str:
    """Return a rate with its standard error, in percent."""
    if np.isnan(rate.standard_error):
        return f"{rate.value:.1%}"
    return f"{rate.value:.1%} (standard error {rate.standard_error:.1%})"


def _error(rate: Estimate) -> float:
    """Return the standard error, or 1 for a single prompt, so that no test is significant."""
    return 1.0 if np.isnan(rate.standard_error) else rate.standard_error

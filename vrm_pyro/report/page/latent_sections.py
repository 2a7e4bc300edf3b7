"""Report sections about latent variables: weights, features, posterior, priors."""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vrm_pyro import names
from vrm_pyro.diagnostics.checks.finding import Finding
from vrm_pyro.diagnostics.metrics.active_units import active_units
from vrm_pyro.diagnostics.metrics.identification import WeightErrors, weight_standard_errors
from vrm_pyro.diagnostics.sensitivity.measure import Sensitivity
from vrm_pyro.diagnostics.sensitivity.summary import (
    THRESHOLD,
    component_rows,
    diagnosis_rows,
    draws_needed,
)
from vrm_pyro.report.page.blocks import Block, Pictures, Section, Table, Words
from vrm_pyro.report.page.charts import (
    KindWeights,
    histogram,
    map_charts,
    projection,
    weights_charts,
)
from vrm_pyro.report.page.page_inputs import PageInputs

Floats = NDArray[np.float64]

# Most kinds of prompts with a chart; the table has more.
MOST_CHARTS: Final = 12
# Most rows of the table.
MOST_ROWS: Final = 240
QUANTITIES: Final = {
    names.WEIGHTS: "weights w",
    names.SCORES: "scores s",
    names.REWARD: "rewards r",
    names.DELTA: "differences",
}


def weights(inputs: PageInputs) -> Section:
    """Return the section on weights by kind of prompt, with how well labels identify them."""
    if len(inputs.objectives) == 1:
        return withheld("weights", "Weights by kind of prompt", "one objective: no weights")
    kinds = np.asarray(inputs.kinds)
    held, counts = np.unique(kinds, return_counts=True)
    order = held[np.argsort(-counts, kind="stable")]
    found = [_kind_weights(inputs, kinds == name) for name in order]
    rows = [
        [
            f"{kind.name}: {objective}",
            f"{kind.mean[k]:.3f}",
            f"{kind.low[k]:.3f} to {kind.high[k]:.3f}",
            f"{kind.spread[k]:.3f}",
            f"{kind.error[k]:.3f}" if np.isfinite(kind.error[k]) else "unbounded",
        ]
        for kind in found
        for k, objective in enumerate(inputs.objectives)
    ]
    return Section(
        "weights",
        "Weights by kind of prompt",
        [
            *weight_warnings(inputs),
            Pictures(
                weights_charts(found[:MOST_CHARTS], inputs.objectives),
                "E[w | prompt] from the prompt alone. The dashed bar is the standard error that "
                "preferences on these pairs would leave for weights of one kind even if scores "
                "were known: where it is wide, the data do not tell this split from others.",
                shared_legend=True,
            ),
            Table(
                f"The same in numbers{'.' if len(rows) <= MOST_ROWS else ', first kinds.'}",
                [
                    "kind: objective",
                    "mean",
                    "10–90% of prompts",
                    "posterior sd of a prompt",
                    "standard error by identification",
                ],
                rows[:MOST_ROWS],
            ),
        ],
    )


def weight_warnings(inputs: PageInputs) -> list[Words]:
    """Return warnings against interpreting the weights, and how well labels identify them.

    The last paragraph is the verdict of the check ``weights``.
    """
    found = []
    if not inputs.rated:
        found.append(
            "Do not interpret single weights: the model was trained without ratings, so its "
            "objectives have no meaning of their own and could change places. Only differences "
            "between kinds of prompts can be read."
        )
    known = inputs.training
    trained = known.get("labels_are_function_of_ratings"), known.get("labels_are_sign_of")
    if function := _explained(inputs, *trained):
        found.append(
            f"Do not interpret these weights: in the training rows {function}, and any other "
            "weights come from the prior or from noise."
        )
    elif function := _explained(inputs, inputs.labels_follow_ratings, inputs.labels_sign_of):
        found.append(f"In these rows {function}, so they cannot confirm other weights.")
    verdict = finding_words(inputs.weights)
    if inputs.weights.advice:
        verdict = replace(verdict, tone="alarm")
    return [*(Words(text, "alarm") for text in found), verdict]


def _explained(inputs: PageInputs, follow: bool | None, objective: str | None) -> str:
    """Return which weights explain labels that follow ratings.

    Empty where labels do not, or follow an objective that the model does not have: its weights
    then say how that one follows from the others.
    """
    if not follow or objective not in (None, *inputs.objectives):
        return ""
    if objective is None:
        return "the labels are the sign of the mean rating difference: equal weights explain them"
    return f"the labels are the sign of the ratings of {objective}: weight on it explains them"


def _kind_weights(inputs: PageInputs, prompts: NDArray[np.bool_]) -> KindWeights:
    """Return the weights of prompts of one kind for the charts."""
    reasons, number = inputs.reasons, int(prompts.sum())
    mean = reasons.weights[prompts].mean(0)
    low, high = np.quantile(reasons.weights[prompts], [0.1, 0.9], axis=0)
    spread = np.sqrt((reasons.weights_sd[prompts] ** 2).mean(0))
    name = inputs.kinds[int(prompts.argmax())]
    error = identified(inputs, prompts, mean).weights
    return KindWeights(name, number, mean, low, high, spread, error)


def identified(inputs: PageInputs, prompts: NDArray[np.bool_], mean: Floats) -> WeightErrors:
    """Return the standard errors of mean weights, given the pairs of these prompts."""
    table = inputs.table
    pairs = prompts[table.pair_prompt] & (table.pair_weight > 0)
    slopes = inputs.reasons.slopes
    # With beta inside the scores, their scale is 1; errors of w are the same.
    return weight_standard_errors(
        slopes[table.pair_first[pairs]] - slopes[table.pair_second[pairs]],
        mean / mean.sum(),
        1.0,
        table.pair_weight[pairs],
    )


def feature_map(inputs: PageInputs) -> Section:
    """Return the section with two principal components of the expected features."""
    features = inputs.predictions.expected_features
    assert features is not None
    place, explained = projection(features)
    owner = inputs.table.response_prompt
    count = np.bincount(owner, minlength=inputs.table.num_prompts)
    reward = inputs.scores.reward.astype(np.float64)
    level = np.bincount(owner, reward, minlength=len(count)) / np.maximum(count, 1)
    kinds = [inputs.kinds[i] for i in owner]
    return Section(
        "features",
        "Map of features",
        [
            Pictures(
                map_charts(place, explained, kinds, reward - level[owner]),
                f"Each dot is a response: E[z] in {features.shape[1]} dimensions on its first two "
                "principal components. If kinds form clusters, features describe the prompt more "
                "than the response. If colours of the reward separate, features carry the reward.",
            )
        ],
    )


def collapse(inputs: PageInputs) -> Section:
    """Return the section on how much weights and features depend on the text."""
    found = inputs.predictions
    assert found.kl_weights is not None
    assert found.kl_features is not None
    assert found.expected_weights is not None
    assert found.expected_features is not None
    active = active_units(found.expected_weights, found.expected_features)
    num_weights = found.expected_weights.shape[1]
    num_features = found.expected_features.shape[1]
    one = num_weights == 1
    of_weights = f"{active.weights} of {num_weights} weights vary with the prompt, "
    blocks: list[Block] = [
        finding_words(inputs.collapse),
        Words(
            ("" if one else of_weights)
            + f"{active.features} of {num_features} features with the response (by more than 1% "
            "of the variance of the reference)."
        ),
    ]
    pictures = []
    histograms = (
        (
            found.kl_weights,
            "KL(p(w | x) || Dir(1)), nats a prompt",
            "Weights",
            "share of prompts",
        ),
        (
            found.kl_features,
            "KL(p(z | x, y) || N(0, I)), nats a response",
            "Features",
            "share of responses",
        ),
    )
    for values, label, title, unit in histograms[one:]:
        finite = values[np.isfinite(values)]
        if len(finite):
            pictures.append(histogram(finite, label, title, unit=unit, heading=title))
        else:
            blocks.append(
                Words(f"{title}: the KL of a point estimate from any density is infinite.", "note")
            )
    if pictures:
        blocks.append(
            Pictures(
                pictures, "How far the distribution given the text is from a fixed reference."
            )
        )
    rows = [
        [f"w of {name}", f"{variance:.2e}", "yes" if variance > active.threshold_weights else "no"]
        for name, variance in zip(inputs.objectives, active.variance_weights, strict=True)
        if not one
    ] + [
        [f"z {d}", f"{variance:.2e}", "yes" if variance > active.threshold_features else "no"]
        for d, variance in enumerate(active.variance_features)
    ]
    blocks.append(
        Table(
            f"Variance over texts of the expected value; active above "
            f"{active.threshold_weights:.1e} (weights) and {active.threshold_features:.1e} "
            "(features).",
            ["unit", "variance", "active"],
            rows,
        )
    )
    return Section("collapse", "KL and collapse", blocks)


def finding_words(found: Finding) -> Words:
    """Return the verdict and advice of a check, worded as in ``vrm-pyro diagnose``."""
    text = f"Check {found.name}: {found.verdict} {found.advice}".rstrip()
    return Words(text, "alarm" if found.alarm else "plain")


def guide(found: Finding) -> Section:
    """Return the section on how well the guide covers the posterior of each prompt."""
    khat, limit = np.asarray(found.detail["khat"]), float(found.detail["limit"])
    finite = khat[np.isfinite(khat)]
    draws = Words(f"{found.detail['num_draws']:,} draws of the guide for each prompt.")
    blocks: list[Block] = [finding_words(found), draws]
    if len(finite):
        picture = histogram(
            finite,
            "Pareto k-hat of a prompt",
            "k-hat of prompts",
            limit=(limit, f"limit {limit:.2f}"),
        )
        blocks.append(
            Pictures(
                [picture],
                "Tail index of the importance weights from the guide to the posterior given these "
                "outcomes.",
            )
        )
    return Section("khat", "Guide against posterior: k-hat", blocks)


def prior_sensitivity(found: Sensitivity) -> Section:
    """Return the section on sensitivity to priors and outcomes."""
    rows = [
        [
            f"{QUANTITIES[row.quantity]}: {row.component}",
            *(_index(value) for value in (row.median, row.q90, row.noise)),
            _share(row.flagged),
            _share(row.unreliable),
            row.verdict,
        ]
        for row in component_rows(found)
        if row.objective is None
    ]
    shares = [
        [
            QUANTITIES[row.quantity],
            *(_share(value) for value in (row.conflict, row.strong_prior, row.nothing)),
            f"{row.items:,}",
        ]
        for row in diagnosis_rows(found)
        if row.objective is None
    ]
    blocks: list[Block] = [
        Words(
            "How fast the posterior moves when a part of the model is raised to a power near 1, "
            f"prompt by prompt, on {found.khat.shape[1]:,} prompts with {found.num_draws:,} draws "
            f"each; sensitive from {THRESHOLD:g}. vrm-pyro psense does all prompts, by objective."
        ),
        Table(
            "Index by quantity and part.",
            ["quantity: part", "median", "90% quantile", "noise", "flagged", "unreliable", ""],
            rows,
            wordy=(6,),
        ),
        Table(
            "Diagnoses. Prior-data conflict: the two disagree, or know about equally much.",
            ["quantity", "prior-data conflict", "strong prior", "neither", "items"],
            shares,
        ),
    ]
    needed = draws_needed(found)
    if needed is not None:
        blocks.append(
            Words(
                f"With {found.num_draws:,} draws, noise alone reaches the threshold in some rows; "
                f"use {needed:,} draws.",
                "note",
            )
        )
    return Section("sensitivity", "Sensitivity to the prior", blocks)


def withheld(key: str, title: str, reason: str) -> Section:
    """Return a section that gives the reason why it is empty."""
    return Section(key, title, [Words(f"Left out: {reason}.", "note")])


def sample_of(num_prompts: int, size: int, seed: int = 0) -> NDArray[np.int64]:
    """Return a sorted random sample of prompt indices; all if there are at most ``size``."""
    if num_prompts <= size:
        return np.arange(num_prompts)
    return np.sort(np.random.default_rng(seed).choice(num_prompts, size, replace=False))


def _index(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"

"""Checks of rows with ratings and no comparison, which a model can learn scores from."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.source import FeatureSource, with_objectives
from vrm_pyro.diagnostics.metrics.pair_metrics import cluster_mean
from vrm_pyro.diagnostics.metrics.ridge_reference import ridge_ratings
from vrm_pyro.diagnostics.rating_rates import rating_rates
from vrm_pyro.models.settings.config import ModelConfig, check_data, objective_names
from vrm_pyro.training.preflight.check import Check
from vrm_pyro.training.preflight.overfit import NUM_STEPS, memorise
from vrm_pyro.training.preparation import data_facts

NUM_RATED: Final = 32
R2_LIMIT: Final = 0.25
"""Ratings count little beside labels (lambda), so none are learned by heart; a model that does not
learn has about 0."""


def check_ratings(table: PreferenceTable) -> Check:
    """Check that ratings are there and differ."""
    observed = ~np.isnan(table.ratings)
    rated = int(observed.any(axis=1).sum())
    finding = (
        f"no comparison, {int(observed.sum()):,} ratings of {rated:,} responses on "
        f"{len(table.objectives)} objectives"
    )
    same = [
        name
        for k, name in enumerate(table.objectives)
        if observed[:, k].any() and np.ptp(table.ratings[observed[:, k], k]) == 0
    ]
    if same:
        return Check(
            "ratings",
            "fail" if len(same) == len(table.objectives) else "warn",
            f"{finding}; all ratings of {', '.join(same)} are equal",
            "Equal ratings teach nothing; is the column filled as meant?",
        )
    return Check("ratings", "ok", finding)


def check_rating_fit(
    config: ModelConfig,
    source: FeatureSource,
    *,
    num_rated: int = NUM_RATED,
    num_steps: int = NUM_STEPS,
    seed: int = 0,
) -> Check:
    """Train the configured model on about 32 rated responses and foretell the same ratings.

    Args:
        config: Settings of the model.
        source: States and ratings; the first prompts with ``num_rated`` rated responses are taken.
        num_rated: Number of rated responses to learn.
        num_steps: Most full-batch AdamW steps.
        seed: Seed of the initial weights; torch's global random state is unchanged.

    Raises:
        InputError: If settings and rows do not fit.
    """
    facts = data_facts(source)
    check_data(config, facts)
    names = objective_names(config, facts)
    items = _first_prompts(with_objectives(source, names), num_rated)
    r2 = None
    for step, module, _ in memorise(config, source, items, num_steps, seed):
        if module is None:
            return Check(
                "overfit",
                "fail",
                f"the loss is not finite after {step} steps",
                "Are all states and ratings finite?",
            )
        found = rating_rates(module.model, source, names, items)
        assert found is not None
        r2, count = found["r2"], found["n_ratings"]
        if r2 is None or (step and r2 >= R2_LIMIT):
            break
    if r2 is None:
        return Check(
            "overfit",
            "warn",
            "no objective has ratings that differ among the first rated responses",
            "Ratings known up to a level of their prompt (DifferenceRatings) need two rated "
            "responses of a prompt.",
        )
    finding = f"{count} ratings after {step} steps: {r2:.0%} of their variance explained"
    if r2 >= R2_LIMIT:
        return Check("overfit", "ok", finding)
    return Check(
        "overfit",
        "fail",
        finding,
        "Are texts equal after cutting at max_length, and rated differently? If not, a setting "
        "keeps the model from learning: raise model.rating_power, or lower "
        "model.hyperprior_weight.",
    )


def check_rating_signal(
    train: FeatureSource, validation: FeatureSource | None = None, seed: int = 0
) -> Check:
    """Check that backbone states foretell the ratings of other prompts.

    Args:
        train: States and ratings to fit on, and to choose the penalty of a ridge regression by.
        validation: States and ratings to foretell. Default: a third of the prompts of ``train``.
        seed: Seed of the split.
    """
    prompts = np.random.default_rng(seed).permutation(np.unique(_rated_prompts(train)))
    parts = np.array_split(prompts, 3 if validation is None else 2)
    fitted, chosen = (_states(train, part) for part in parts[:2])
    if validation is None:
        held, where = _states(train, parts[2]), "held-out prompts"
    else:
        validation = with_objectives(validation, train.objectives)
        held, where = _states(validation, _rated_prompts(validation)), "the validation rows"
    predicted = ridge_ratings(fitted[:2], chosen[:2], held[0])
    with np.errstate(invalid="ignore"):
        level = np.array([_mean(fitted[1][:, k]) for k in range(fitted[1].shape[1])])
    known = ~np.isnan(held[1]) & ~np.isnan(predicted) & ~np.isnan(level)
    if not known.any():
        return Check("signal", "warn", "too few ratings to tell", "Give more rated rows.")
    spread = np.square(held[1] - level)
    gain = (spread - np.square(held[1] - predicted))[known] / spread[known].mean()
    owner = np.repeat(held[2][:, None], known.shape[1], axis=1)[known]
    found = cluster_mean(gain, np.ones(len(gain)), owner)
    error = 1.0 if np.isnan(found.standard_error) else found.standard_error
    finding = (
        f"a linear rule on the states explains {found.value:.1%} (standard error {error:.1%}) of "
        f"the variance of {len(gain):,} ratings of {where}"
    )
    if found.value - 2 * error <= 0:
        return Check(
            "signal",
            "warn",
            finding,
            "No signal shows yet. With few rows that is common; with many, check ratings, "
            "max_length and the choice of the backbone.",
        )
    return Check("signal", "ok", finding)


def _mean(values: NDArray[np.float64]) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _rated_prompts(source: FeatureSource) -> NDArray[np.int64]:
    """Return the prompt of every rated response."""
    rated = ~np.isnan(np.asarray(source.ratings)).all(axis=1)
    return np.asarray(source.response_prompt, dtype=np.int64)[rated]


def _first_prompts(source: FeatureSource, num_rated: int) -> NDArray[np.int64]:
    prompts, counts = np.unique(_rated_prompts(source), return_counts=True)
    return prompts[: int(np.searchsorted(np.cumsum(counts), num_rated)) + 1]


def _states(
    source: FeatureSource, prompts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return states, ratings and prompts of the rated responses of some prompts."""
    owner, ratings = np.asarray(source.response_prompt), np.asarray(source.ratings)
    rows = np.flatnonzero(~np.isnan(ratings).all(axis=1) & np.isin(owner, prompts))
    states = np.asarray(source.responses[rows], dtype=np.float64)
    return states, ratings[rows].astype(np.float64), owner[rows]

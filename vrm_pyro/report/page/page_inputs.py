"""Inputs of the report: predictions of a model on rows, as arrays."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.rows import LabelCheck, PreferenceTable, check_label_identification
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.checks.collapse import collapse_of
from vrm_pyro.diagnostics.checks.finding import Finding
from vrm_pyro.diagnostics.checks.khat import khat
from vrm_pyro.diagnostics.checks.weight_evidence import weight_evidence
from vrm_pyro.diagnostics.evaluate import evaluate
from vrm_pyro.diagnostics.sensitivity.measure import Sensitivity, sensitivity
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.prediction.contributions import contributions
from vrm_pyro.prediction.posterior import draw_posterior
from vrm_pyro.prediction.posterior.to_xarray import Names, to_datatree
from vrm_pyro.prediction.predict import Predictions, predict
from vrm_pyro.prediction.scorer import Scores, score_source
from vrm_pyro.training.run.artefacts import METRICS_FILE, read_metrics

Floats = NDArray[np.float64]

ALL_PROMPTS: Final = "all prompts"
NO_KIND: Final = "(none)"


@dataclass(frozen=True)
class Reasons:
    """Contribution of each objective to rewards, by prompt and response.

    Args:
        parts: E[beta w_k s_k], shape (R, K).
        slopes: E[beta s_k], (R, K).
        weights: E[w_k], (P, K).
        weights_sd: Standard deviation of w_k, (P, K).
    """

    parts: Floats
    slopes: Floats
    weights: Floats
    weights_sd: Floats


@dataclass(frozen=True)
class PageInputs:
    """Predictions of a model on rows, and summaries of them.

    Args:
        table: The rows.
        objectives: Names of the objectives, K of them.
        rated: Whether scores are expected raw ratings.
        kinds: Kind of each prompt, (P,): the subset of its rows.
        scores: Rewards, scores and probabilities.
        predictions: Expected latents and their KL.
        metrics: Metrics, as ``vrm-pyro evaluate`` writes them.
        reasons: Contributions of the objectives.
        collapse: Whether weights and features ignore the text.
        weights: How well the preferences identify the weights.
        training: Facts of the training rows from the run's ``metrics.json``; empty without one.
        labels_follow_ratings: Whether the labels of these rows are a function of their ratings.
        labels_sign_of: The single objective whose ratings they follow, if it is one.
    """

    table: PreferenceTable
    objectives: tuple[str, ...]
    rated: bool
    kinds: list[str]
    scores: Scores
    predictions: Predictions
    metrics: dict[str, Any]
    reasons: Reasons
    collapse: Finding
    weights: Finding
    training: Mapping[str, Any]
    labels_follow_ratings: bool
    labels_sign_of: str | None = None


def gather(loaded: LoadedModel, inputs: Inputs) -> PageInputs:
    """Compute the predictions of a model with latent variables on rows.

    Raises:
        InputError: If there is no pair with a positive weight.
    """
    model, source, table = loaded.model, inputs.source, inputs.table
    predictions = predict(model, source)
    reasons = _reasons(model, source)
    labels = _label_check(table)
    return PageInputs(
        table=table,
        objectives=loaded.objectives,
        rated=loaded.rated,
        kinds=prompt_kinds(table),
        scores=score_source(model, source),
        predictions=predictions,
        metrics=evaluate(model, inputs, predictions=predictions),
        reasons=reasons,
        collapse=collapse_of(model, predictions),
        weights=_weights(loaded, table, predictions, reasons),
        training=_training(loaded),
        labels_follow_ratings=labels.is_function,
        labels_sign_of=labels.objective,
    )


def _weights(
    loaded: LoadedModel, table: PreferenceTable, predictions: Predictions, reasons: Reasons
) -> Finding:
    assert predictions.expected_weights is not None
    return weight_evidence(
        reasons.slopes[table.pair_first] - reasons.slopes[table.pair_second],
        predictions.expected_weights[table.pair_prompt],
        1.0,  # beta is in the slopes; errors of w are the same
        predictions.p_first,
        table.preference,
        table.pair_weight,
        table.pair_prompt,
        loaded.objectives,
    )


def _training(loaded: LoadedModel) -> Mapping[str, Any]:
    """Return the training facts in a run's folder."""
    run = loaded.directory
    if run is None or not (run / METRICS_FILE).is_file():
        return {}
    facts: Mapping[str, Any] = read_metrics(run).get("training", {})
    return facts


def _label_check(table: PreferenceTable) -> LabelCheck:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the page words this warning itself
        return check_label_identification(table)


def prompt_kinds(table: PreferenceTable) -> list[str]:
    """Return the subset of each prompt's first row; one kind if no row has a subset."""
    kinds = table.prompt_subset
    if all(name is None for name in kinds):
        return [ALL_PROMPTS] * table.num_prompts
    return [NO_KIND if name is None else name for name in kinds]


def find_khat(model: RewardModel, source: FeatureSource, num_draws: int, seed: int = 0) -> Finding:
    """Return whether the guide covers the posterior of every prompt, judged as by ``diagnose``."""
    draws = draw_posterior(model, source, num_draws, seed=seed)
    return khat(draws.groups["sample_stats"]["log_weight"])


def sensitivity_of(
    model: RewardModel,
    source: FeatureSource,
    objectives: tuple[str, ...],
    num_draws: int,
    seed: int = 0,
) -> Sensitivity:
    """Return the power-scaling sensitivity of the posterior of every prompt."""
    draws = draw_posterior(model, source, num_draws, seed=seed)
    return sensitivity(to_datatree(draws, Names(objectives)), seed=seed)


def _reasons(model: RewardModel, source: FeatureSource) -> Reasons:
    num_prompts, num_responses = source.prompts.shape[0], source.responses.shape[0]
    size = model.num_objectives
    parts, slopes = np.zeros((num_responses, size)), np.zeros((num_responses, size))
    weights, sd = np.zeros((num_prompts, size)), np.zeros((num_prompts, size))
    with evaluation_mode(model) as device:
        for chunk in chunks(PromptDataset(source)):
            found = contributions(model, chunk.batch.to(device))
            parts[chunk.responses] = found.parts.cpu().numpy()
            slopes[chunk.responses] = found.slopes.cpu().numpy()
            weights[chunk.prompts] = found.weights.cpu().numpy()
            sd[chunk.prompts] = found.weights_sd.cpu().numpy()
    return Reasons(parts, slopes, weights, sd)

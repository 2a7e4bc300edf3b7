"""What the report is made of: all that a model says of some rows, as arrays."""

import logging
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.checks.collapse import collapse_of
from vrm_pyro.diagnostics.checks.finding import Finding
from vrm_pyro.diagnostics.checks.khat import khat
from vrm_pyro.diagnostics.evaluate import evaluate_table
from vrm_pyro.diagnostics.sensitivity.measure import Sensitivity, sensitivity
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.vrm import VRM
from vrm_pyro.prediction.contributions import contributions
from vrm_pyro.prediction.posterior import draw_posterior
from vrm_pyro.prediction.posterior.to_xarray import Names, to_datatree
from vrm_pyro.prediction.predict import Predictions, predict
from vrm_pyro.prediction.scorer import Scores, score_source

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

ALL_PROMPTS: Final = "all prompts"
NO_KIND: Final = "(none)"


@dataclass(frozen=True)
class Reasons:
    """What each objective adds to rewards, prompt by prompt and response by response.

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
    """All that the model says of the rows.

    Args:
        table: The rows.
        objectives: Names of the objectives, K of them.
        rated: Whether scores are expected raw ratings.
        kinds: Kind of each prompt, (P,): the subset of its rows.
        scores: Rewards, scores and probabilities.
        predictions: Expected latents and their KL.
        metrics: What ``vrm-pyro evaluate`` writes.
        reasons: Contributions.
        collapse: Whether weights and features ignore the text.
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


def gather(
    model: VRM, source: FeatureSource, table: PreferenceTable, objectives: tuple[str, ...]
) -> PageInputs:
    """Return what a model says of rows.

    Args:
        model: The model.
        source: States of the rows.
        table: The rows, in the order of the source.
        objectives: Names of the objectives.

    Raises:
        InputError: If there is no pair with a positive weight.
    """
    predictions = predict(model, source)
    return PageInputs(
        table=table,
        objectives=objectives,
        rated=model.ratings is not None,
        kinds=prompt_kinds(table),
        scores=score_source(model, source),
        predictions=predictions,
        metrics=evaluate_table(model, source, table, predictions),
        reasons=_reasons(model, source),
        collapse=collapse_of(model, predictions),
    )


def prompt_kinds(table: PreferenceTable) -> list[str]:
    """Return the subset of each prompt, that of its first row; one kind if no row has any."""
    kinds = table.prompt_subset
    if all(name is None for name in kinds):
        return [ALL_PROMPTS] * table.num_prompts
    return [NO_KIND if name is None else name for name in kinds]


def find_khat(model: VRM, source: FeatureSource, num_draws: int, seed: int = 0) -> Finding:
    """Return whether the guide covers the posterior of every prompt, judged as by ``diagnose``."""
    draws = draw_posterior(model, source, num_draws, seed=seed)
    return khat(draws.groups["sample_stats"]["log_weight"])


def sensitivity_of(
    model: VRM,
    source: FeatureSource,
    objectives: tuple[str, ...],
    num_draws: int,
    seed: int = 0,
) -> Sensitivity:
    """Return the power-scaling sensitivity of the posterior of every prompt."""
    draws = draw_posterior(model, source, num_draws, seed=seed)
    return sensitivity(to_datatree(draws, Names(objectives)), seed=seed)


def _reasons(model: VRM, source: FeatureSource) -> Reasons:
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

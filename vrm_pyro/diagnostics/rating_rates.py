"""How well a model foretells the ratings of some rows."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource, with_objectives
from vrm_pyro.diagnostics.metrics.pair_metrics import cluster_mean
from vrm_pyro.models.ensemble import latent_members
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.rating_scores import rating_scores
from vrm_pyro.models.ratings.difference import DifferenceRatingsModule
from vrm_pyro.models.reward_model import RewardModel

Floats = NDArray[np.float64]


def rating_rates(
    model: RewardModel,
    source: FeatureSource,
    objectives: Sequence[str],
    prompts: NDArray[np.int64] | None = None,
) -> dict[str, Any] | None:
    """Return log score and R^2 of the ratings of some rows, together and by objective.

    The log score is the mean of log p(rating | texts) over ratings, in nats, a rating in standard
    deviations of all training ratings (a step or a yes has a probability instead). Always to
    expect the mean and the spread of the training ratings has about -1.42. ``r2`` is the share of
    the variance of an objective's ratings about their mean in these rows that expected ratings
    explain; of all ratings together, about the mean of each objective. Of ratings known up to a
    level of their prompt, both look at differences within prompts.

    Source: marginal likelihoods of ratings, spec 2.6, at lambda = 1.

    Args:
        model: The model.
        source: Rows with states and ratings.
        objectives: Names of the model's objectives.
        prompts: Prompts whose ratings count; all when omitted.

    Returns:
        JSON values; None if the scores of the model are no ratings, or of other objectives. A
        rate that nothing defines is None.
    """
    if not model.scores_are_ratings or len(objectives) != model.num_objectives:
        return None
    rated = with_objectives(source, objectives)
    size = (len(rated.response_prompt), len(objectives))
    log_prob, expected = np.zeros(size), np.zeros(size)
    counts = np.zeros(size, dtype=bool)
    response_prompt = np.asarray(rated.response_prompt)
    truth = np.asarray(rated.ratings, dtype=np.float64)
    used = np.unique(response_prompt[~np.isnan(truth).all(axis=1)])
    used = used if prompts is None else np.intersect1d(used, prompts)
    with evaluation_mode(model) as device:
        for chunk in chunks(PromptDataset(rated, *model.rating_unit, used)):
            batch = chunk.batch.to(device)
            scores = rating_scores(model, batch)
            log_prob[chunk.responses] = scores.log_prob.double().cpu().numpy()
            counts[chunk.responses] = scores.counts.cpu().numpy()
            found = model.predict_responses(batch)
            assert found.score_mean is not None
            assert found.score_sd is not None
            mean, _ = model.in_rating_unit(found.score_mean, found.score_sd)
            expected[chunk.responses] = mean.double().cpu().numpy()
    differ = isinstance(latent_members(model)[0].ratings, DifferenceRatingsModule)
    squares = np.zeros((2, len(objectives)))  # of errors, and about the mean
    for k, seen in enumerate(counts.T):
        owner = response_prompt[seen] if differ else None
        squares[:, k] = _squares(truth[seen, k], expected[seen, k], owner)
    return {
        **_log_score(log_prob, counts, response_prompt),
        "r2": _r2(*squares.sum(1)),
        "by_objective": {
            name: {
                **_log_score(log_prob[:, [k]], counts[:, [k]], response_prompt),
                "r2": _r2(*squares[:, k]),
            }
            for k, name in enumerate(objectives)
        },
    }


def _log_score(
    log_prob: Floats, counts: NDArray[np.bool_], response_prompt: NDArray[Any]
) -> dict[str, Any]:
    responses, _ = np.nonzero(counts)
    values = log_prob[counts]
    found = cluster_mean(values, np.ones(len(values)), response_prompt[responses])
    return {
        "n_ratings": len(values),
        "log_score": float(found.value) if math.isfinite(found.value) else None,
        "log_score_se": (
            float(found.standard_error) if math.isfinite(found.standard_error) else None
        ),
    }


def _squares(truth: Floats, expected: Floats, prompt: NDArray[Any] | None) -> tuple[float, float]:
    """Return squared errors and squares about the mean; of a prompt where levels are unknown."""
    if len(truth) == 0:
        return 0.0, 0.0
    if prompt is not None:
        _, group = np.unique(prompt, return_inverse=True)
        size = np.bincount(group)
        truth = truth - (np.bincount(group, truth) / size)[group]
        expected = expected - (np.bincount(group, expected) / size)[group]
    return float(np.square(truth - expected).sum()), float(np.square(truth - truth.mean()).sum())


def _r2(errors: float, spread: float) -> float | None:
    return None if spread == 0 else 1 - float(errors) / float(spread)

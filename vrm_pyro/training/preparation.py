"""What training derives from its rows: facts, input scalers, the rating unit, usable prompts."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import TrainingArguments

from vrm_pyro.data.source import FeatureSource, with_objectives
from vrm_pyro.errors import InputError
from vrm_pyro.models.networks import Standardize
from vrm_pyro.models.priors.base import FittedFeaturePrior, FittedPrior
from vrm_pyro.models.ratings import GaussianRatings, RatingLikelihood
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.models.settings.config import (
    DataFacts,
    ModelConfig,
    objective_names,
    uses_ratings,
)


def data_facts(source: FeatureSource) -> DataFacts:
    """Return the facts of a source that settings are checked against."""
    pairs = int((np.asarray(source.pair_weight) > 0).sum())
    busiest = 0
    if pairs:
        uses = np.bincount(np.asarray(source.pair_first), minlength=len(source.response_prompt))
        uses = uses + np.bincount(np.asarray(source.pair_second), minlength=len(uses))
        busiest = int(uses.max())
    observed = [
        bool((~np.isnan(source.ratings[:, k])).any()) for k in range(len(source.objectives))
    ]
    rated = tuple(name for name, seen in zip(source.objectives, observed, strict=True) if seen)
    return DataFacts(rated, busiest, pairs)


def has_pairs(source: FeatureSource) -> bool:
    """Return whether some comparison counts."""
    return bool((np.asarray(source.pair_weight) > 0).any())


def check_validation(config: ModelConfig, train: DataFacts, validation: FeatureSource) -> None:
    """Raise InputError unless training can be stopped by the validation rows.

    By their comparisons; by their ratings where no comparison is trained on.

    Args:
        config: Settings of the model.
        train: Facts of the training rows.
        validation: Validation rows, with states or without.
    """
    if has_pairs(validation):
        return
    remedy = "Name rows with --data.validation, or raise data.validation_fraction."
    if train.num_pairs or not uses_ratings(config, train):
        raise InputError(
            f"The validation rows hold no pair; early stopping needs preferences. {remedy}"
        )
    names = objective_names(config, train)
    observed = ~np.isnan(np.asarray(with_objectives(validation, names).ratings))
    where = np.asarray(validation.response_prompt)
    if not config.rating_likelihood.levels_known:  # a level of each prompt's own says nothing
        count = np.zeros((int(where.max(initial=-1)) + 1, len(names)), dtype=np.int64)
        np.add.at(count, where, observed)
        observed = observed & (count[where] > 1)
    if not observed.any():
        of = alone = ""
        if not config.rating_likelihood.levels_known:
            of = " two responses of one prompt with"
            alone = " With one rated response a prompt, set model.rating_likelihood to "
            alone += "GaussianRatings, which counts every rating alone."
        raise InputError(
            f"The validation rows hold neither a pair nor{of} a rating of {', '.join(names)}; "
            f"early stopping needs one of them. {remedy}{alone}"
        )


def stop_by_ratings(arguments: TrainingArguments) -> None:
    """Set what is best to the log score of ratings, for validation rows without a comparison.

    Raises:
        InputError: If the settings ask for the accuracy, which such rows do not have.
    """
    metric = str(arguments.metric_for_best_model).removeprefix("eval_")
    if metric == "accuracy":
        raise InputError(
            "train.metric_for_best_model is accuracy, but the validation rows hold no pair. Leave "
            "it out to stop by the log score of ratings."
        )
    if metric == "log_loss":
        arguments.metric_for_best_model = "rating_log_score"
        arguments.greater_is_better = True


def rating_unit(
    source: FeatureSource, likelihood: type[RatingLikelihood] = GaussianRatings
) -> tuple[float, float]:
    """Return location and scale of all ratings together: one unit per data set (spec 2.5)."""
    values = np.asarray(source.ratings)
    return likelihood.unit(values[~np.isnan(values)])


def rating_ranges(source: FeatureSource) -> dict[str, tuple[float, float]]:
    """Return the least and greatest rating of each objective that is rated, raw units."""
    found = {}
    for k, name in enumerate(source.objectives):
        values = np.asarray(source.ratings[:, k])
        values = values[~np.isnan(values)]
        if len(values):
            found[name] = (float(values.min()), float(values.max()))
    return found


def useful_prompts(source: FeatureSource, rated: bool) -> NDArray[np.int64]:
    """Return the prompts with a pair, or with a rating if ``rated``; indices in rising order."""
    response_prompt = np.asarray(source.response_prompt)
    useful = np.zeros(source.prompts.shape[0], dtype=bool)
    useful[response_prompt[np.asarray(source.pair_first)]] = True
    if rated:
        has_rating = ~np.isnan(np.asarray(source.ratings)).all(axis=1)
        useful[response_prompt[has_rating]] = True
    return np.flatnonzero(useful)


def fit_scalers(model: RewardModel, source: FeatureSource, num_texts: int | None = None) -> None:
    """Set the input standardisation from the training states, read in slices.

    Args:
        model: The heads.
        source: Training states.
        num_texts: Number of prompts and of responses to use, drawn at random; default all.
    """
    members = model.members
    for name, states in (("prompt_scaler", source.prompts), ("response_scaler", source.responses)):
        if not isinstance(getattr(members[0], name, None), Standardize):
            continue
        moments = _streamed_moments(states, num_texts)
        for member in members:
            getattr(member, name).set_statistics(*moments)
    for member in members:
        _fit_priors(member, source)


def _fit_priors(model: RewardModel, source: FeatureSource) -> None:
    """Fit priors to training states, where they are of a kind that asks for it."""
    prior = getattr(model, "weight_prior", None)
    if isinstance(prior, FittedPrior):
        rows = torch.randperm(source.prompts.shape[0])[: prior.num_states].sort().values
        chosen = torch.from_numpy(np.asarray(source.prompts[rows.numpy()], dtype=np.float32))
        rated = torch.from_numpy(rated_objectives(source))[rows]
        prior.fit_states(model.get_submodule("prompt_scaler")(chosen), rated)

    prior = getattr(model, "feature_prior", None)
    if isinstance(prior, FittedFeaturePrior):
        used = _used_responses(source, prior.num_states)
        chosen = torch.from_numpy(np.asarray(source.responses[used], dtype=np.float32))
        prompt = torch.from_numpy(np.asarray(source.response_prompt, dtype=np.int64)[used])
        prior.fit_responses(model.get_submodule("response_scaler")(chosen), prompt)


def _used_responses(source: FeatureSource, num_texts: int) -> NDArray[np.int64]:
    """Return responses with a pair or a rating, of as many prompts drawn at random as fit."""
    prompt = np.asarray(source.response_prompt)
    used: NDArray[np.bool_] = np.asarray(~np.isnan(np.asarray(source.ratings)).all(axis=1))
    used[np.asarray(source.pair_first)] = used[np.asarray(source.pair_second)] = True
    count = np.bincount(prompt[used], minlength=source.prompts.shape[0])
    order = torch.randperm(len(count)).numpy()
    chosen = order[np.cumsum(count[order]) <= max(num_texts, count.max())]
    return np.flatnonzero(used & np.isin(prompt, chosen))


def rated_objectives(source: FeatureSource) -> NDArray[np.bool_]:
    """Return whether any response of a prompt is rated on an objective, shape (P, objectives)."""
    rated = np.zeros((source.prompts.shape[0], len(source.objectives)), dtype=bool)
    observed = ~np.isnan(np.asarray(source.ratings))
    np.logical_or.at(rated, np.asarray(source.response_prompt), observed)
    return rated


def _streamed_moments(
    states: Any, num_texts: int | None, rows: int = 8192
) -> tuple[torch.Tensor, torch.Tensor]:
    count, total, square = 0, 0.0, 0.0
    chosen = np.arange(states.shape[0])
    if num_texts is not None:
        chosen = torch.randperm(len(chosen))[:num_texts].sort().values.numpy()
    for start in range(0, len(chosen), rows):
        index = chosen[start : start + rows]
        block = np.asarray(states[index], dtype=np.float64)
        count, total, square = (
            count + len(block),
            total + block.sum(0),
            square + (block**2).sum(0),
        )
    mean = total / count
    variance = np.maximum(square / count - mean**2, 0.0)
    return torch.from_numpy(np.asarray(mean)), torch.from_numpy(np.sqrt(variance))

"""Set the scales of a trained model by the evidence of the validation rows (spec 2.2)."""

import copy
import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from tqdm import tqdm

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.conjugate import rating_evidence, shared_level_update
from vrm_pyro.models.distributions import as_gaussian
from vrm_pyro.models.epistemic.shrinkage import ShrinkagePosterior
from vrm_pyro.models.priors.spread import SPREAD, has_spread, with_spread
from vrm_pyro.models.ratings import GaussianValues, SharedLevelValues
from vrm_pyro.models.vrm import VRM
from vrm_pyro.prediction.posterior import log_evidence, standard_batch
from vrm_pyro.training.preparation import useful_prompts

log = logging.getLogger(__name__)

MOST_PROMPTS: Final = 200
"""Prompts whose evidence is computed; more make the scales hardly surer, but take longer."""

_DRAWS = 128
_FIRST_STEPS = (0.4, 0.1)  # of the logarithm of a factor, in each round
_TOLERANCE = 0.03
_EVALUATIONS = 30  # for each factor
_LEAST_SHARE = 0.01  # of the variance of features, that a larger tau may leave


def recalibrate(
    model: VRM, validation: FeatureSource, seed: int = 0, progress: bool = True
) -> dict[str, Any]:
    """Multiply the scales of a model by the factors that maximise the validation evidence.

    Networks fit their training rows more closely than new ones, so the spread that they learn on
    them is too narrow for new rows. Factors mend that, by maximum likelihood of the outcomes of
    each validation prompt together, w and z integrated out, with a prior Normal(0, 1) on the
    logarithm of each factor:

    1. Gaussian ratings set the spread of each objective: one factor for the standard deviation
       of its score and its tau, and for the spread of its levels where it has them. Exact.
    2. Preferences beside the ratings tell how much of that spread is the score's: a factor on
       tau, with the sum of both variances held. Together with it, factors on the standard
       deviations of p(w | x) and on beta, by importance sampling. Without Gaussian ratings the
       first is a factor on the standard deviations of p(z | x, y).

    What predictions add to the spread of z for doubt about the map of a shrinkage prior is part
    of the evidence, so that nothing counts twice. Both steps are done twice.

    Source: spec 2.2. The model is changed in place. At the factors found, intervals on new rows
    hold about as often as they say, while means of w and z stay.

    Args:
        model: A VRM in evaluation mode that was built with ``recalibrate``.
        validation: Rows with states that were not trained on; at most :data:`MOST_PROMPTS`.
        seed: Of the choice of prompts and of the draws.
        progress: Whether to show a bar.

    Returns:
        Factors by name: ``features`` (of each feature) and ``ratings`` (of each objective), lists;
        ``weights`` and ``reward``. 1 where none was fitted. ``evidence_before`` and
        ``evidence_after`` in nats per prompt.
    """
    used = np.unique(np.asarray(validation.response_prompt)[np.asarray(validation.pair_first)])
    if len(used) == 0:  # ratings alone
        used = useful_prompts(validation, rated=True)
    if len(used) > MOST_PROMPTS:
        used = np.sort(np.random.default_rng(seed).choice(used, MOST_PROMPTS, replace=False))
    trial = copy.deepcopy(model).double().eval().requires_grad_(False)
    batch = standard_batch(trial, validation, used)
    before, start = _evidence(trial, batch, seed), _log_scales(trial)
    with torch.no_grad():
        names = _fitted(trial, batch, trial.conditionals(batch))
    num = _EVALUATIONS * len(names)
    with tqdm(total=2 * num, desc="scales", unit="evaluation", disable=not progress) as bar:
        for first_step in _FIRST_STEPS if batch.num_pairs else ():
            _fit_totals(trial, batch)  # the two depend on each other
            change = _Change(trial, batch)

            def loss(log_factors: np.ndarray, change: _Change = change) -> float:
                bar.update()
                if not change.make(dict(zip(names, log_factors, strict=True))):
                    return math.inf
                prior = 0.5 * float(log_factors @ log_factors) / len(used)
                return prior - _evidence(trial, batch, seed)

            zero = np.zeros(len(names))
            simplex = np.vstack([zero, first_step * np.eye(len(names))])
            options: dict[str, Any] = {"maxfev": num, "xatol": _TOLERANCE, "fatol": 1e-3}
            options |= {"initial_simplex": simplex}
            found = minimize(loss, zero, method="Nelder-Mead", options=options)
            change.make(dict(zip(names, found.x, strict=True)))
        _fit_totals(trial, batch)
    end, after = _log_scales(trial), _evidence(trial, batch, seed)
    if not after > before:
        end, after = start, before
    _set_log_scales(model, end)
    factors: dict[str, Any] = {"ratings": [1.0] * model.num_objectives}
    factors |= {name: (end[name] - start[name]).exp().tolist() for name in start}
    shown = ", ".join(
        f"{name} x " + " ".join(f"{f:.2f}" for f in np.atleast_1d(value))
        for name, value in factors.items()
    )
    log.info("scales set by %d validation prompts: %s", len(used), shown)
    return factors | {"evidence_before": before, "evidence_after": after}


def _evidence(model: VRM, batch: FeatureBatch, seed: int) -> float:
    """Return the mean log evidence of a prompt; -inf where it is not finite."""
    with torch.no_grad():
        conditionals = model.conditionals(batch)
    found = float(log_evidence(model, batch, conditionals, _DRAWS, seed).log_prob.mean())
    return found if math.isfinite(found) else -math.inf


def _features(model: VRM, batch: FeatureBatch) -> Any:
    """Return p(z | x, y) at the mean of its map: what the factors multiply."""
    with torch.no_grad():
        return model.feature_prior(batch.responses)


def _log_tensors(model: VRM) -> dict[str, Tensor]:
    """Return the tensors of a model that hold logarithms of scales."""
    found = {"reward": model.reward.log_scale}
    for name, of in (("ratings", "scale"), ("levels", "level_scale")):
        scale: Any = getattr(model.ratings, of, None)
        if hasattr(scale, "log_scale"):
            found[name] = scale.log_scale
    return found


def _spreads(model: VRM) -> dict[str, Tensor]:
    """Return the factors of priors, which are no logarithms."""
    priors = {"features": model.feature_prior, "weights": model.weight_prior}
    return {name: prior.get_buffer(SPREAD) for name, prior in priors.items()}


def _log_scales(model: VRM) -> dict[str, Tensor]:
    """Return the logarithms of all scales, copied."""
    logs = {name: factor.log() for name, factor in _spreads(model).items()}
    return logs | {name: value.detach().clone() for name, value in _log_tensors(model).items()}


def _set_log_scales(model: VRM, logs: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in _log_tensors(model).items():
            value.copy_(logs[name])
        for name, factor in _spreads(model).items():
            factor.copy_(logs[name].exp())


def _has_totals(batch: FeatureBatch, conditionals: Conditionals) -> bool:
    """Return whether ratings are Gaussian, so that they tell the spread of each objective."""
    known = isinstance(conditionals.ratings, GaussianValues | SharedLevelValues)
    return known and batch.has_ratings and has_spread(conditionals.features)


def _fitted(model: VRM, batch: FeatureBatch, conditionals: Conditionals) -> list[str]:
    """Return the names of the factors that are fitted by outcomes of all kinds together."""
    names = ["reward"]
    if model.num_objectives > 1 and has_spread(conditionals.weights):
        names.insert(0, "weights")
    if not _has_totals(batch, conditionals) and has_spread(conditionals.features):
        names.insert(0, "features")
    if "ratings" in _log_tensors(model) and batch.has_ratings:
        names.append("ratings")
    return names


def _features_are_scores(model: VRM) -> bool:
    loading = model.reward().loading
    return loading.shape[0] == loading.shape[1] and bool(
        torch.equal(loading, torch.eye(len(loading)).to(loading))
    )


def _fit_totals(model: VRM, batch: FeatureBatch) -> None:
    """Multiply sd of scores and tau by one factor an objective: that of the rating evidence.

    Where features are no scores, it is one factor for all objectives.
    """
    with torch.no_grad():
        conditionals = model.conditionals(batch)
    if not _has_totals(batch, conditionals):
        return
    ratings: Any = conditionals.ratings
    at_mean = _features(model, batch)
    logs = _log_scales(model)
    size = model.num_objectives if _features_are_scores(model) else 1
    own = logs["ratings"].new_zeros(size, requires_grad=True)
    level = logs["ratings"].new_zeros(model.num_objectives, requires_grad=True)
    evidence = rating_evidence if isinstance(ratings, GaussianValues) else _shared_evidence
    optimiser = torch.optim.LBFGS([own, level], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        changed = replace(ratings, scale=ratings.scale * own.exp())
        if "levels" in logs:
            changed = replace(changed, level_scale=ratings.level_scale * level.exp())
        features = with_spread(at_mean, own.exp())
        if isinstance(model.parameter_posterior, ShrinkagePosterior):
            features = model.parameter_posterior.widened(model, features, batch)
        tried = replace(conditionals, features=features, ratings=changed)
        prior = 0.5 * (own.square().sum() + level.square().sum())
        value = prior - evidence(batch, tried).sum()
        value.backward()
        return value

    optimiser.step(loss)  # type: ignore[arg-type]
    for name, change in (("features", own), ("ratings", own), ("levels", level)):
        if name in logs:
            logs[name] = logs[name] + change.detach()
    _set_log_scales(model, logs)


def _shared_evidence(batch: FeatureBatch, conditionals: Conditionals) -> Tensor:
    return shared_level_update(batch, conditionals).log_evidence


class _Change:
    """Change of the scales of a model by a few factors, from where it stands now."""

    def __init__(self, model: VRM, batch: FeatureBatch) -> None:
        self.model, self.start = model, _log_scales(model)
        self.noise_share: Tensor | None = None
        with torch.no_grad():
            conditionals = model.conditionals(batch)
        if _has_totals(batch, conditionals):
            ratings: Any = conditionals.ratings
            features = as_gaussian(_features(model, batch))
            score = features.mapped_variance(conditionals.reward.loading)
            count = batch.rating_mask.sum(0).clamp(min=1)
            variance = torch.where(batch.rating_mask, score, 0.0).sum(0) / count
            share = ratings.scale**2 / variance.clamp(min=1e-12)
            # Objectives that nobody rated here keep their spread.
            share = torch.where(batch.rating_mask.any(0), share, torch.zeros_like(share))
            if not _features_are_scores(model):
                share = (ratings.scale**2).mean() / variance.mean()
            self.noise_share = share

    def make(self, log_factors: Mapping[str, float]) -> bool:
        """Set the scales; return False, and leave them, if features had no variance left."""
        logs = {
            name: value + float(log_factors.get(name, 0.0)) for name, value in self.start.items()
        }
        if self.noise_share is not None:  # a score has what tau leaves of the total
            left = 1 + self.noise_share * (1 - math.exp(2 * log_factors["ratings"]))
            if bool((left < _LEAST_SHARE).any()):
                return False
            logs["features"] = logs["features"] + 0.5 * left.log()
        _set_log_scales(self.model, logs)
        return True

"""Set the scales of a trained model by the evidence of the validation rows (spec 2.2)."""

import copy
import logging
import math
from typing import Any, Final

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from tqdm import tqdm

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.models.priors.spread import SPREAD, has_spread
from vrm_pyro.models.vrm import VRM
from vrm_pyro.prediction.posterior import log_evidence, standard_batch
from vrm_pyro.training.preparation import useful_prompts

log = logging.getLogger(__name__)

MOST_PROMPTS: Final = 200
"""Prompts whose evidence is computed; more make the scales hardly surer, but take longer."""

_DRAWS = 128
_FIRST_STEP = 0.4  # of the logarithm of a factor
_TOLERANCE = 0.03
_EVALUATIONS = 30  # for each factor


def recalibrate(
    model: VRM, validation: FeatureSource, seed: int = 0, progress: bool = True
) -> dict[str, float]:
    """Multiply the scales of a model by the factors that maximise the validation evidence.

    Networks fit their training rows more closely than new ones, so the spread that they learn on
    them is too narrow for new rows. Four numbers mend that: factors on the standard deviations of
    p(z | x, y) and p(w | x), on beta and on tau of the ratings, by maximum likelihood of all
    outcomes of each validation prompt together (w and z integrated out by importance sampling).
    Outcomes of one prompt together tell these scales apart; single pairs or ratings do not.

    Source: spec 2.2. The model is changed in place. At the factors found, intervals on new rows
    hold about as often as they say, while means of w and z stay.

    Args:
        model: A VRM in evaluation mode that was built with ``recalibrate``.
        validation: Rows with states that were not trained on; at most :data:`MOST_PROMPTS`.
        seed: Of the choice of prompts and of the draws.
        progress: Whether to show a bar.

    Returns:
        Factors by name (``features``, ``weights``, ``reward``, ``ratings``), 1 where none was
        fitted, and ``evidence_before`` and ``evidence_after`` in nats per prompt.
    """
    used = np.unique(np.asarray(validation.response_prompt)[np.asarray(validation.pair_first)])
    if len(used) == 0:  # ratings alone
        used = useful_prompts(validation, rated=True)
    if len(used) > MOST_PROMPTS:
        used = np.sort(np.random.default_rng(seed).choice(used, MOST_PROMPTS, replace=False))
    trial = copy.deepcopy(model).double().eval()
    batch = standard_batch(trial, validation, used)
    scales = _scales(trial, batch)
    start = [scale.clone() for scale in scales.values()]
    num = _EVALUATIONS * len(start)
    with tqdm(total=num, desc="scales", unit="evaluation", disable=not progress) as bar:

        def loss(log_factors: np.ndarray) -> float:
            _multiply(scales, start, log_factors)
            with torch.no_grad():
                conditionals = trial.conditionals(batch)
            found = log_evidence(trial, batch, conditionals, _DRAWS, seed).log_prob.mean()
            bar.update()
            return -float(found) if math.isfinite(found) else math.inf

        zero = np.zeros(len(start))
        before = loss(zero)
        simplex = np.vstack([zero, _FIRST_STEP * np.eye(len(start))])
        options: dict[str, Any] = {"maxfev": num - 1, "xatol": _TOLERANCE, "fatol": 1e-3}
        options |= {"initial_simplex": simplex}
        found = minimize(loss, zero, method="Nelder-Mead", options=options)
    if not found.fun < before:
        found.x, found.fun = zero, before
    own = {name: scale for name, scale in _tensors(model).items() if name in scales}
    _multiply(own, [scale.clone() for scale in own.values()], found.x)
    factors = dict.fromkeys(("features", "weights", "reward", "ratings"), 1.0)
    factors |= {name: float(np.exp(x)) for name, x in zip(scales, found.x, strict=True)}
    told = ", ".join(f"{name} x {value:.2f}" for name, value in factors.items())
    log.info("scales set by %d validation prompts: %s", len(used), told)
    return factors | {"evidence_before": -float(before), "evidence_after": -float(found.fun)}


def _tensors(model: VRM) -> dict[str, Tensor]:
    """Return what holds a scale; beta and tau as they are stored, on the log scale."""
    found = {
        "features": model.feature_prior.get_buffer(SPREAD),
        "weights": model.weight_prior.get_buffer(SPREAD),
        "reward": model.reward.log_scale,
    }
    scale: Any = getattr(model.ratings, "scale", None)
    if hasattr(scale, "log_scale"):
        found["ratings"] = scale.log_scale
    return found


def _scales(model: VRM, batch: FeatureBatch) -> dict[str, Tensor]:
    """Return the scales that can be multiplied: the spread of families that are known."""
    found = _tensors(model)
    with torch.no_grad():
        conditionals = model.conditionals(batch)
    if not has_spread(conditionals.features):
        del found["features"]
    if model.num_objectives == 1 or not has_spread(conditionals.weights):
        del found["weights"]
    return found


def _multiply(scales: dict[str, Tensor], start: list[Tensor], log_factors: np.ndarray) -> None:
    with torch.no_grad():
        for (name, scale), value, x in zip(scales.items(), start, log_factors, strict=True):
            on_log_scale = name in ("reward", "ratings")
            scale.copy_(value + x if on_log_scale else value * math.exp(x))

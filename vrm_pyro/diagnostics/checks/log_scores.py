"""Log density of the preferences of each prompt under a model, given texts alone."""

from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.data.chunks import Chunk, chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.metrics.pair_metrics import log_loss_values
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.models.evaluation import double_copy
from vrm_pyro.models.guides import LabelBlindModule
from vrm_pyro.models.vrm import VRM
from vrm_pyro.prediction.posterior.evidence import log_evidence

Floats = NDArray[np.float64]

LOO_DRAWS: Final = 128


def log_scores(
    loaded: LoadedModel, source: FeatureSource, p_first: Floats, seed: int = 0
) -> Floats:
    """Return log p(preferences of each prompt | texts), w and z integrated out, shape (P,).

    By the predictive distribution of either mode, without ratings, so that models with and without
    them compare; 0 for a prompt without a comparison. The baseline's pairs are independent.
    The density of an ensemble is the mean of its members'.
    """
    if not loaded.members:
        return _pairs_alone(source, p_first)
    each = [_log_scores(member, source, seed) for member in loaded.members]
    if len(each) == 1:
        return each[0]
    with np.errstate(invalid="ignore"):  # NaN for a prompt whose density a point does not have
        return np.asarray(np.logaddexp.reduce(each) - np.log(len(each)))


def _log_scores(model: VRM, source: FeatureSource, seed: int) -> Floats:
    found = np.zeros(source.prompts.shape[0])
    with double_copy(model) as copied:
        blind = isinstance(copied.guide, LabelBlindModule)
        for chunk in chunks(PromptDataset(source), max_pairs=1024):
            if chunk.batch.num_pairs:
                found[chunk.prompts] = _chunk_scores(copied, chunk, blind, seed)
    return found


def _pairs_alone(source: FeatureSource, p_first: Floats) -> Floats:
    loss = log_loss_values(p_first, np.asarray(source.preference, np.float64))
    value = -np.asarray(source.pair_weight) * loss
    prompt = np.asarray(source.response_prompt)[np.asarray(source.pair_first)]
    return np.bincount(prompt, value, minlength=source.prompts.shape[0]).astype(np.float64)


def _chunk_scores(model: VRM, chunk: Chunk, blind: bool, seed: int) -> Floats:
    raw = chunk.batch.to(torch.float64)
    batch = model.standardize(raw)
    batch = replace(batch, rating_mask=torch.zeros_like(batch.rating_mask))
    conditionals = model.conditionals(batch)
    if blind:
        # The fixed prior of mode vib knows no text: under it every pair is a coin.
        conditionals = replace(
            conditionals,
            weights=model.predictive_weights(raw.prompts),
            features=model.predictive_features(raw.responses),
        )
    # Propose from the prior given the text: with few outcomes a prompt it is close, and the guide
    # may be wrong.
    model.guide = LabelBlindModule()
    found = log_evidence(model, batch, replace(conditionals, ratings=None), LOO_DRAWS, seed)
    return np.asarray(found.log_prob.numpy())

"""Means and variances that a model predicts from texts alone, for every row."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.models.distributions import as_gaussian
from vrm_pyro.models.evaluation import double_copy

Floats = NDArray[np.float64]


class Means(NamedTuple):
    """Means and variances given texts alone, row by row.

    Attributes:
        reward: E[r], shape (R,).
        delta_variance: Var[Delta], shape (N,).
        scores: E[s] in model units, shape (R, K); None for a model without latents.
        feature_variance: Var[z_d], shape (R, d_z), of the first member of an ensemble; None
            likewise.
    """

    reward: Floats
    delta_variance: Floats
    scores: Floats | None
    feature_variance: Floats | None


def text_means(loaded: LoadedModel, source: FeatureSource) -> Means:
    """Return :class:`Means` of all rows, in float64 on the CPU."""
    model = loaded.model
    num_responses = source.responses.shape[0]
    reward, variance = np.zeros(num_responses), np.zeros(len(source.pair_first))
    scores = spread = None
    if loaded.members:
        scores = np.zeros((num_responses, model.num_objectives))
        spread = np.zeros((num_responses, model.latent_dim))
    with double_copy(model) as copied:
        for chunk in chunks(PromptDataset(source)):
            batch = chunk.batch.to(torch.float64)
            found = copied.predict_responses(batch)
            reward[chunk.responses] = found.reward.mean.numpy()
            if batch.num_pairs:
                variance[chunk.pairs] = copied.pair_uncertainty(batch).total.numpy()
            latents = copied.members[0].predictive_latents(batch)
            if latents is not None and scores is not None and spread is not None:
                assert found.score_mean is not None
                scores[chunk.responses] = found.score_mean.numpy()
                spread[chunk.responses] = as_gaussian(latents.features).variance.numpy()
    return Means(reward, variance, scores, spread)

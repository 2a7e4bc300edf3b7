"""Predictions of a model for every response and pair of a feature source."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.reference_kl import kl_features, kl_weights
from vrm_pyro.models.settings.build import RewardModel
from vrm_pyro.models.vrm import VRM


class Predictions(NamedTuple):
    """What a model predicts from texts alone, row by row of a feature source.

    Attributes:
        p_first: Probability that the first response is preferred, shape (N,).
        expected_weights: E[w | x], shape (P, K); None for a model without latents, as below.
        expected_features: E[z | x, y], shape (R, d_z).
        kl_weights: KL(p(w | x) || Dir(1)) in nats, shape (P,).
        kl_features: KL(p(z | x, y) || N(0, I)) in nats, shape (R,).
        p_without_lapse: ``p_first`` of a label that nobody turned round, (N,); None where the
            likelihood has no lapses.
    """

    p_first: NDArray[np.float64]
    expected_weights: NDArray[np.float64] | None = None
    expected_features: NDArray[np.float64] | None = None
    kl_weights: NDArray[np.float64] | None = None
    kl_features: NDArray[np.float64] | None = None
    p_without_lapse: NDArray[np.float64] | None = None


def predict(model: RewardModel, source: FeatureSource) -> Predictions:
    """Return predictions for all rows of a feature source, chunk by chunk over prompts.

    The same whatever mode the model is in; labels and ratings are not read.
    """
    num_prompts, num_responses = source.prompts.shape[0], source.responses.shape[0]
    p_first = np.full(len(source.pair_first), np.nan)
    distributions: tuple[NDArray[np.float64], ...] = ()
    if isinstance(model, VRM):
        distributions = (
            np.zeros((num_prompts, model.num_objectives)),
            np.zeros((num_responses, model.latent_dim)),
            np.zeros(num_prompts),
            np.zeros(num_responses),
        )
    with evaluation_mode(model) as device:
        for chunk in chunks(PromptDataset(source)):
            batch = chunk.batch.to(device)
            if batch.num_pairs:
                p_first[chunk.pairs] = _numpy(model.predict_pairs(batch))
            if isinstance(model, VRM):
                weights = model.predictive_weights(batch.prompts)
                features = model.predictive_features(batch.responses)
                distributions[0][chunk.prompts] = _numpy(weights.mean)
                distributions[1][chunk.responses] = _numpy(features.mean)
                distributions[2][chunk.prompts] = _numpy(kl_weights(weights))
                distributions[3][chunk.responses] = _numpy(kl_features(features))
    found = Predictions(p_first, *distributions)
    if not model.likelihood.lapses:
        return found
    with torch.no_grad():
        clean = model.likelihood.without_lapse(torch.from_numpy(p_first))
    return found._replace(p_without_lapse=_numpy(clean))


def _numpy(values: torch.Tensor) -> NDArray[np.float64]:
    return values.detach().double().cpu().numpy()

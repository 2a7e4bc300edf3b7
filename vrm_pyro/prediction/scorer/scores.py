"""Scores of responses from backbone states: reward, its spread, and what is behind it."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.reward_model import RewardModel

Floats = NDArray[np.float32]


class Scores(NamedTuple):
    """Predictions for the responses and pairs of a feature source.

    Attributes:
        reward: Mean of the reward, shape (R,).
        variance: Its variance, (R,): not knowing which objectives count (``from_weights``), how
            good the response is on them (``from_features``), and both (``interaction``).
        from_weights: First part, (R,).
        from_features: Second part, (R,).
        interaction: Third part, (R,).
        epistemic: Variance from the uncertainty about the parameters, (R,); part of
            ``variance``. It includes the level that all responses to a prompt share.
        weights: E[w | prompt] of the response's prompt, (R, K); None for the baseline.
        scores: Mean of each objective's score, (R, K).
        scores_sd: Standard deviation of the scores, (R, K).
        p_first: Probability that the first response of a pair is preferred, (N,).
        delta: Mean of the reward difference of a pair, its ambiguity (latents of this item) and
            its epistemic variance (parameters), (3, N).
        p_without_lapse: ``p_first`` of the label before label noise, (N,); None where the
            likelihood has no lapses.
    """

    reward: Floats
    variance: Floats
    from_weights: Floats
    from_features: Floats
    interaction: Floats
    epistemic: Floats
    weights: Floats | None
    scores: Floats | None
    scores_sd: Floats | None
    p_first: Floats
    delta: Floats
    p_without_lapse: Floats | None = None


def score_source(model: RewardModel, source: FeatureSource) -> Scores:
    """Return the scores of all rows, chunk by chunk; labels and ratings are not read.

    A score depends on its text alone: not on other rows, their order, a seed, or the mode the
    model is in. Scores of a model whose ratings act on scores are in raw rating units: what a
    rating of this response is expected to be. Others are in model units, as is every reward.
    """
    num_responses = source.responses.shape[0]
    moments = np.zeros((6, num_responses), np.float32)
    p_first = np.zeros(len(source.pair_first), np.float32)
    clean = np.zeros_like(p_first)
    delta = np.zeros((3, len(source.pair_first)), np.float32)
    # Weights, scores, sd of scores: without a column where there are no latent variables.
    latent = tuple(np.zeros((num_responses, model.num_objectives), np.float32) for _ in "123")
    with evaluation_mode(model) as device:
        for chunk in chunks(PromptDataset(source)):
            batch = chunk.batch.to(device)
            found = model.predict_responses(batch)
            moments[:, chunk.responses] = torch.stack(list(found.reward)).cpu().numpy()
            if batch.num_pairs:
                chance = model.predict_pairs(batch)
                p_first[chunk.pairs] = chance.cpu().numpy()
                clean[chunk.pairs] = model.without_lapse(chance).cpu().numpy()
                pairs = model.pair_uncertainty(batch)
                delta[:, chunk.pairs] = torch.stack(list(pairs)).cpu().numpy()
            if found.weight_mean is not None:
                assert found.score_mean is not None
                assert found.score_sd is not None
                mean, sd = model.in_rating_unit(found.score_mean, found.score_sd)
                for array, value in zip(latent, (found.weight_mean, mean, sd), strict=True):
                    array[chunk.responses] = value.cpu().numpy()
    weights, scores, scores_sd = latent if model.num_objectives else (None, None, None)
    reward, variance, from_weights, from_features, interaction, epistemic = moments
    return Scores(
        reward,
        variance,
        from_weights,
        from_features,
        interaction,
        epistemic,
        weights,
        scores,
        scores_sd,
        p_first,
        delta,
        clean if model.likelihood.lapses else None,
    )

"""Predictions of a model for every response and pair of a feature source."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.features.reading import DataLike
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.reference_kl import kl_features, kl_weights
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.prediction.opening import ModelLike, open_both


class Predictions(NamedTuple):
    """What a model predicts from texts alone, row by row of a feature source.

    Attributes:
        p_first: Probability that the first response is preferred, shape (N,).
        expected_weights: E[w | x], shape (P, K); None for a model without latents, as below.
        expected_features: E[z | x, y], shape (R, d_z); of the first member of an ensemble, as
            members share no axes.
        kl_weights: KL(p(w | x) || Dir(1)) in nats, shape (P,); of an ensemble, mean over members.
        kl_features: KL(p(z | x, y) || N(0, I)) in nats, shape (R,); likewise.
        p_without_lapse: Probability of the label before label noise, shape (N,); None where the
            likelihood has no label noise.
        delta: Mean of the reward difference, and its variance from ambiguity and from the
            parameters (:class:`~vrm_pyro.models.predictive.PairUncertainty`), shape (3, N).
    """

    p_first: NDArray[np.float64]
    expected_weights: NDArray[np.float64] | None = None
    expected_features: NDArray[np.float64] | None = None
    kl_weights: NDArray[np.float64] | None = None
    kl_features: NDArray[np.float64] | None = None
    p_without_lapse: NDArray[np.float64] | None = None
    delta: NDArray[np.float64] | None = None

    def __repr__(self) -> str:
        sizes = [f"{len(self.p_first):,} pairs"]
        if self.expected_weights is not None and self.expected_features is not None:
            prompts, objectives = self.expected_weights.shape
            responses, features = self.expected_features.shape
            sizes += [f"{prompts:,} prompts x {objectives} objectives"]
            sizes += [f"{responses:,} responses x {features} features"]
        return f"Predictions({', '.join(sizes)})"


def predict(model: ModelLike | RewardModel, data: DataLike | FeatureSource) -> Predictions:
    """Return what a model predicts for every pair, prompt and response, from the texts alone.

    Labels and ratings are not read. The result does not depend on whether the model is in
    training or evaluation mode::

        p = vrm_pyro.predict("runs/rated", "test.jsonl").p_first

    Args:
        model: The folder of a run, a run, a loaded model or a scorer; or a module.
        data: Rows in any form, see :func:`~vrm_pyro.prediction.opening.read_inputs`; for a module
            rows with states.

    Returns:
        Arrays in the order of the rows: N pairs, P prompts, R responses. Pairs that the backbone
        cannot tell apart are left out.

    Raises:
        InputError: If model or rows cannot be read, or do not fit each other.
    """
    model, source, _ = open_both(model, data)
    num_prompts, num_responses = source.prompts.shape[0], source.responses.shape[0]
    p_first = np.full(len(source.pair_first), np.nan)
    delta = np.full((3, len(p_first)), np.nan)
    expected_weights = np.zeros((num_prompts, model.num_objectives))
    expected_features = np.zeros((num_responses, model.latent_dim))
    of_weights, of_features = np.zeros(num_prompts), np.zeros(num_responses)
    members = model.members
    latents = None
    with evaluation_mode(model) as device:
        for chunk in chunks(PromptDataset(source)):
            batch = chunk.batch.to(device)
            if batch.num_pairs:
                chance, uncertainty = model.assess_pairs(batch)
                p_first[chunk.pairs] = _numpy(chance)
                delta[:, chunk.pairs] = _numpy(torch.stack(list(uncertainty)))
            for m, member in enumerate(members):
                latents = member.predictive_latents(batch)
                if latents is None:
                    break
                mean = _numpy(model.aligned(m, latents.weights.mean))
                expected_weights[chunk.prompts] += mean / len(members)
                of_weights[chunk.prompts] += _numpy(kl_weights(latents.weights)) / len(members)
                of_features[chunk.responses] += _numpy(kl_features(latents.features)) / len(
                    members
                )
                if m == 0:
                    expected_features[chunk.responses] = _numpy(latents.features.mean)
    found = Predictions(p_first, delta=delta)
    if latents is not None:
        found = Predictions(
            p_first, expected_weights, expected_features, of_weights, of_features, delta=delta
        )
    if not model.likelihood.lapses:
        return found
    with torch.no_grad():
        clean = model.without_lapse(torch.from_numpy(p_first))
    return found._replace(p_without_lapse=_numpy(clean))


def _numpy(values: torch.Tensor) -> NDArray[np.float64]:
    return values.detach().double().cpu().numpy()

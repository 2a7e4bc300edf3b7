"""Score how uncertain a model is about a pair, or how far its states are from training states.

``scores`` returns all scores of one model. Three of them need no model:

``distance``: the squared distance of the two standardised states.
``leverage``: x'(X'X + I)^-1 x of the standardised states, summed over both responses. Up to a
factor, it is the epistemic variance of an exact Bayesian linear reward.
``gaussian_process``: the posterior variance of a Gaussian process at both states, given a noisy
value at every training response. Its kernel is exp(-|x - x'|^2 / (2 length^2)) on states of unit
norm.
"""

import copy

import numpy as np
import torch

from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.models.epistemic.laplace import LaplacePosterior
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.vrm import VRM
from vrm_pyro.prediction.predict import predict

LENGTH_SCALE, NOISE_VARIANCE = 0.3, 0.1
WITHOUT_MODEL = ("distance", "leverage", "gaussian_process")
SCORES = (
    "epistemic",
    "epistemic_share",
    "epistemic_per_distance",
    "epistemic_over_prior",
    "epistemic_of_responses",
    "ambiguity",
    "doubt",
)


class TrainingStates:
    """Scores of new responses from the training states alone, without a model.

    Args:
        source: Training rows.
    """

    def __init__(self, source: FeatureSource) -> None:
        states = np.asarray(source.responses, dtype=np.float64)
        standard = (states - states.mean(0)) / states.std(0).clip(1e-6)
        inverse = np.linalg.inv(standard.T @ standard + np.eye(states.shape[1]))
        self.covariance = torch.from_numpy(inverse).float()
        self.unit = _unit(torch.from_numpy(states))
        kernel = _kernel(self.unit, self.unit)
        kernel.diagonal().add_(NOISE_VARIANCE)
        self.factor = torch.linalg.cholesky(kernel)

    def leverage(self, standard: torch.Tensor) -> torch.Tensor:
        """Return x' (X'X + I)^-1 x of standardised states, (R,)."""
        return torch.einsum("rd,de,re->r", standard, self.covariance, standard)

    def process_variance(self, states: torch.Tensor) -> torch.Tensor:
        """Return the variance of the Gaussian process at states, (R,)."""
        cross = _kernel(self.unit, _unit(states.double()))
        explained = torch.linalg.solve_triangular(self.factor, cross, upper=False)
        return 1 - explained.square().sum(0)


def _unit(states: torch.Tensor) -> torch.Tensor:
    return states / states.norm(dim=-1, keepdim=True)


def _kernel(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the kernel of states of unit norm: |x - x'|^2 is 2 - 2 x'x'."""
    return torch.exp((one @ other.T - 1) / LENGTH_SCALE**2)


def under_prior(model) -> VRM | None:
    """Return the model with the prior instead of its Laplace posterior; None without one."""
    if not isinstance(getattr(model, "head", None), LaplacePosterior):
        return None
    prior = copy.deepcopy(model)
    prior.head.fit(torch.zeros(prior.head.size, prior.head.size, dtype=torch.float64))
    return prior


def scores(
    model, prior: VRM | None, source: FeatureSource, training: TrainingStates
) -> dict[str, np.ndarray]:
    """Return p(first) and all uncertainty scores, each of shape (N,).

    Args:
        model: A trained model.
        prior: The result of :func:`under_prior` for it.
        source: Pairs.
        training: States that the model was trained on.
    """
    arrays = np.zeros((8, len(source.pair_first)))
    with evaluation_mode(model) as device:
        for chunk in chunks(PromptDataset(source)):
            batch = chunk.batch.to(device)
            states = model.response_scaler(batch.responses)
            first, second = batch.pair_first, batch.pair_second
            leverage = training.leverage(states)
            process = training.process_variance(batch.responses)
            mean, ambiguity, epistemic = model.pair_uncertainty(batch)
            before = None if prior is None else prior.pair_uncertainty(batch).epistemic
            found = (
                mean,
                ambiguity,
                epistemic,
                torch.zeros_like(mean) if before is None else epistemic / before,
                _of_responses(model, batch),
                (states[first] - states[second]).square().sum(-1),
                leverage[first] + leverage[second],
                process[first] + process[second],
            )
            for array, values in zip(arrays, found, strict=True):
                array[chunk.pairs] = values.cpu().numpy()
    mean, ambiguity, epistemic, over_prior, of_responses, distance, leverage, process = arrays
    p = predict(model, source).p_first
    return {
        "p": p,
        "doubt": 1 - np.maximum(p, 1 - p),
        "ambiguity": ambiguity,
        "epistemic": epistemic,
        "epistemic_share": epistemic / (mean**2 + ambiguity + epistemic),
        "epistemic_per_distance": epistemic / distance,
        "epistemic_over_prior": over_prior,
        "epistemic_of_responses": of_responses,
        "distance": distance,
        "leverage": leverage,
        "gaussian_process": process,
    }


def _of_responses(model, batch):
    """Return the mean epistemic variance of the two rewards of a pair, (N,)."""
    if isinstance(model, VRM):
        variance = model.predict_responses(batch).reward.epistemic
    else:
        rewards = model.member_rewards(batch.responses)
        variance = rewards.var(0) if len(rewards) > 1 else torch.zeros_like(rewards[0])
    return (variance[batch.pair_first] + variance[batch.pair_second]) / 2

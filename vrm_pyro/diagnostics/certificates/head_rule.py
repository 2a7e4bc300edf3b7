"""Predictions of a model for draws of its head, and their mean loss by Monte Carlo."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Distribution

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.certificates.gaussian_head import GaussianHead, HeadParameters
from vrm_pyro.diagnostics.certificates.prompt_losses import LOSSES, prompt_means
from vrm_pyro.models.distributions import Gaussian, as_gaussian, weight_nodes
from vrm_pyro.models.epistemic.base import run_with
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.predictive import num_nodes, probability_over_nodes
from vrm_pyro.models.vrm import VRM

Rule = Callable[[Tensor], Tensor]
Tick = Callable[[int], object]


@contextmanager
def frozen_copy(model: VRM) -> Iterator[VRM]:
    """Yield a frozen copy of the model on the CPU; the model itself is not changed."""
    copied = copy.deepcopy(model).to("cpu").requires_grad_(False)
    copied.parameter_posterior = (
        None  # a rule is one value of theta, without averaging over the head
    )
    with evaluation_mode(copied):
        yield copied


def rule_of(model: VRM, parameters: HeadParameters, batch: FeatureBatch) -> Rule:
    """Return theta -> p(first preferred) of every pair of a batch, shape (N,).

    It calls the model's ``predict_pairs`` with theta as its parameters. If theta holds only the
    reward, the distributions of w and z do not depend on it and are computed once for all draws.

    Args:
        model: A frozen copy.
        parameters: The parameters in theta.
        batch: Raw states.
    """
    like = model.reward.intercept
    distributions = _fixed_distributions(model, parameters, batch)
    if distributions is None:

        def predict(theta: Tensor) -> Tensor:
            values = parameters.unflatten(theta, like)
            return run_with(model, values, lambda: model.predict_pairs(batch))

        return predict
    weights, features = distributions
    nodes = weight_nodes(weights, num_nodes(weights))
    first, second = features.rows(batch.pair_first), features.rows(batch.pair_second)

    def predict_fast(theta: Tensor) -> Tensor:
        values = parameters.unflatten(theta, like)
        reward = run_with(model, values, model.reward)
        return probability_over_nodes(
            weights,
            lambda rows: nodes[:, rows],
            len(nodes),
            batch.pair_prompt,
            (first, second),
            reward,
            model.likelihood,
        )

    return predict_fast


def _fixed_distributions(
    model: VRM, parameters: HeadParameters, batch: FeatureBatch
) -> tuple[Distribution, Gaussian] | None:
    """Return the distributions of w and z if they do not depend on theta."""
    if not all(name.startswith("reward.") for name in parameters.shapes):
        return None
    features = as_gaussian(model.predictive_features(batch.responses))
    return model.predictive_weights(batch.prompts), features


def gibbs_risks(
    model: VRM,
    parameters: HeadParameters,
    posterior: GaussianHead,
    source: FeatureSource,
    num_draws: int,
    seed: int,
    tick: Tick = lambda count: None,
) -> Mapping[str, NDArray[np.float64]]:
    """Return the mean loss over prompts of each draw of theta ~ Q, by loss, each (num_draws,).

    All prompts use the same draws, so the ``num_draws`` means are i.i.d. given the data, as the
    Monte Carlo correction requires.

    Args:
        model: A frozen copy.
        parameters: The parameters in theta.
        posterior: Q.
        source: States and labels.
        num_draws: m.
        seed: Seed of the draws.
        tick: Called with the number of further draws done, as fractions of a pass.
    """
    dataset = PromptDataset(source)
    sums = {name: np.zeros(num_draws) for name in LOSSES}
    count = 0
    for chunk in chunks(dataset):
        batch = chunk.batch.to(model.reward.intercept.dtype)
        preference, weight = batch.preference.double().numpy(), batch.pair_weight.numpy()
        prompt = batch.pair_prompt.numpy()
        with torch.no_grad():
            rule = rule_of(model, parameters, batch)
            # Restart the generator for each chunk: theta is drawn again instead of stored.
            generator = torch.Generator().manual_seed(seed)
            for draw in range(num_draws):
                p_first = rule(posterior.draw(generator)).double().numpy()
                for name, values in LOSSES.items():
                    means = prompt_means(values(p_first, preference), weight, prompt)
                    sums[name][draw] += means.sum()
                tick(len(chunk.prompts))
        count += len(means)
    return {name: (total / count).clip(0, 1) for name, total in sums.items()}

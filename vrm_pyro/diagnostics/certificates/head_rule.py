"""Predictions of a model with other values of its head, and their mean loss by Monte Carlo."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.certificates.gaussian_head import GaussianHead, HeadParameters
from vrm_pyro.diagnostics.certificates.prompt_losses import LOSSES, prompt_means
from vrm_pyro.models.distributions import Gaussian, as_gaussian, weight_nodes
from vrm_pyro.models.epistemic.base import run_with
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.likelihoods import expect_normal
from vrm_pyro.models.reward import delta_given_weights
from vrm_pyro.models.vrm import VRM

Rule = Callable[[Tensor], Tensor]
Tick = Callable[[int], object]


@contextmanager
def frozen_copy(model: VRM) -> Iterator[VRM]:
    """Give a copy on the CPU that nothing trains: the user's model stays as it is."""
    copied = copy.deepcopy(model).to("cpu").requires_grad_(False)
    copied.parameter_posterior = (
        None  # a rule is one value of theta: nothing is averaged around it
    )
    with evaluation_mode(copied):
        yield copied


def rule_of(model: VRM, parameters: HeadParameters, batch: FeatureBatch) -> Rule:
    """Return theta -> p(first preferred) of every pair of a batch, shape (N,).

    The model's own ``predict_pairs`` with theta put in its place. Where theta is the reward alone
    the distributions of w and z do not depend on it, and are computed once for all draws.

    Args:
        model: A frozen copy.
        parameters: What theta consists of.
        batch: Raw states.
    """
    like = model.reward.intercept
    distributions = _fixed_laws(model, parameters, batch)
    if distributions is None:

        def predict(theta: Tensor) -> Tensor:
            values = parameters.unflatten(theta, like)
            return run_with(model, values, lambda: model.predict_pairs(batch))

        return predict
    nodes, features = distributions
    nodes = nodes[:, batch.pair_prompt]
    first, second = features.rows(batch.pair_first), features.rows(batch.pair_second)

    def predict_fast(theta: Tensor) -> Tensor:
        values = parameters.unflatten(theta, like)
        reward = run_with(model, values, model.reward)
        mean, var = delta_given_weights(nodes, first, second, reward)
        return expect_normal(model.likelihood.probability, mean, var).mean(0)

    return predict_fast


def _fixed_laws(
    model: VRM, parameters: HeadParameters, batch: FeatureBatch
) -> tuple[Tensor, Gaussian] | None:
    """Return nodes of w and the distribution of z when no draw of theta changes them."""
    if not all(name.startswith("reward.") for name in parameters.shapes):
        return None
    weights = model.predictive_weights(batch.prompts)
    return weight_nodes(weights), as_gaussian(model.predictive_features(batch.responses))


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

    The same draws meet every prompt, so the ``num_draws`` numbers are independent and equally
    distributed given the data, as the Monte Carlo correction needs it.

    Args:
        model: A frozen copy.
        parameters: What theta consists of.
        posterior: Q.
        source: States and labels.
        num_draws: m.
        seed: Fixes the draws.
        tick: Told how many more draws, in parts of a pass, are done.
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
            # Begun anew for each chunk: theta is redrawn, never kept, whatever its size.
            generator = torch.Generator().manual_seed(seed)
            for draw in range(num_draws):
                p_first = rule(posterior.draw(generator)).double().numpy()
                for name, values in LOSSES.items():
                    means = prompt_means(values(p_first, preference), weight, prompt)
                    sums[name][draw] += means.sum()
                tick(len(chunk.prompts))
        count += len(means)
    return {name: (total / count).clip(0, 1) for name, total in sums.items()}

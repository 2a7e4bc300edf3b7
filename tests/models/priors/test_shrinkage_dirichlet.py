import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.problems import assert_within
from torch.distributions import Normal, kl_divergence

from vrm_pyro.models.priors import (
    ConditionalNormalPrior,
    DirichletPrior,
    ShrinkageDirichletPrior,
)
from vrm_pyro.models.ratings import GaussianRatings
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.prediction.predict import predict
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.train import train


def fitted(num_prompts=50, hidden=6, objectives=3, **settings):
    torch.manual_seed(0)
    states = torch.randn(num_prompts, hidden) * torch.linspace(2.0, 0.5, hidden)
    module = ShrinkageDirichletPrior(**settings).build(hidden, objectives)
    module.fit_states(states)
    return module, states


def test_directions_are_principal_components_of_mean_square_length_one():
    module, states = fitted(num_directions=4)
    features = (states - states.mean(0)) @ module.directions.T
    assert features.square().sum(-1).mean().item() == pytest.approx(1.0, abs=1e-5)
    covariance = features.T @ features / len(features)
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-5
    assert (covariance.diag().diff() < 0).all()


def test_fewer_prompts_than_directions_leave_the_rest_empty():
    module, states = fitted(num_prompts=4, num_directions=6)
    assert module.directions.any(-1).tolist() == [True] * 3 + [False] * 3
    assert module(states).concentration.isfinite().all()


def test_it_starts_at_one_shared_concentration():
    module, states = fitted(initial_concentration=2.5)
    alpha = module.eval()(states).concentration
    assert torch.allclose(alpha, torch.full((50, 3), 2.5), rtol=1e-5)


def test_divergence_is_that_of_normals_and_counts_directions_in_use_alone():
    module, _ = fitted(num_prompts=4, num_directions=6)
    with torch.no_grad():
        module.loc.copy_(0.1 * torch.randn(3, 6))
        module.raw_scale.copy_(0.02 * torch.randn(3, 6))
    posterior = Normal(10 * module.loc[:, :3], torch.exp(30 * module.raw_scale[:, :3]))
    expected = kl_divergence(posterior, Normal(0.0, 1.0)).sum()
    assert module.divergence().item() == pytest.approx(expected.item(), rel=1e-5)


def test_draws_in_training_have_the_moments_of_the_map():
    """Logits under q(V): mean b + tau M phi, variance tau^2 S^2 phi^2."""
    module, states = fitted(num_directions=3, initial_scale=0.7)
    with torch.no_grad():
        module.loc.copy_(0.1 * torch.randn(3, 3))
        module.raw_scale.copy_(0.02 * torch.randn(3, 3))
    share = module.train()(states[:1].expand(40_000, 6)).concentration.detach() - 0.1
    logits = share.log()
    contrast = logits[:, 0] - logits[:, 1]
    phi = module.directions @ states[0]
    mean = 0.7 * 10 * (module.loc[0] - module.loc[1]) @ phi
    scale = torch.exp(30 * module.raw_scale)
    variance = 0.49 * (scale[:2].square() @ phi.square()).sum()
    assert_within(contrast.mean(), mean.detach(), contrast.std() / 200, 4.5)
    error = math.sqrt(2 / 40_000) * variance.item()
    assert_within(contrast.var(), variance.detach(), torch.tensor(error), 4.5)


def simulated(strength, num_prompts=500, hidden=32, seed=0):
    """Return states and labels where log weights are linear in two directions of the prompt."""
    rng = np.random.default_rng(seed)
    prompts = rng.normal(size=(num_prompts, hidden))
    owner = np.repeat(np.arange(num_prompts), 6)
    responses = rng.normal(size=(len(owner), hidden))
    scores = responses @ rng.normal(size=(hidden, 3)) / math.sqrt(hidden)
    logits = strength * prompts[:, :2] @ rng.normal(size=(2, 3))
    weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    reward = 4 * (weights[owner] * scores).sum(1)
    first = np.arange(0, len(owner), 2)
    chance = 1 / (1 + np.exp(reward[first + 1] - reward[first]))
    label = (rng.random(len(first)) < chance).astype(float)
    ratings = scores + 0.3 * rng.normal(size=scores.shape)

    def part(low, high):
        pairs = (owner[first] >= low) & (owner[first] < high)
        inside = (owner >= low) & (owner < high)
        return SimpleNamespace(
            prompts=prompts.astype(np.float32),
            responses=responses.astype(np.float32),
            response_prompt=owner,
            pair_first=first[pairs],
            pair_second=first[pairs] + 1,
            preference=label[pairs],
            pair_weight=np.ones(pairs.sum()),
            ratings=np.where(inside[:, None], ratings, np.nan),
            objectives=("a", "b", "c"),
        )

    return part, prompts, weights


def trained(prior, part, folder):
    config = ModelConfig(
        objective="integrated",
        weight_prior=prior,
        feature_prior=ConditionalNormalPrior(0, 0.0, 0.3),
        rating_likelihood=GaussianRatings(0.3),
    )
    arguments = TrainArguments(
        output_dir=str(folder), num_train_epochs=40, per_device_train_batch_size=64,
        learning_rate=3e-3, weight_decay=0.0, early_stopping_patience=10, seed=0, use_cpu=True,
        disable_tqdm=True, logging_steps=5,
    )  # fmt: skip
    return train(config, arguments, part(0, 350), part(350, 420))


def log_loss(model, part):
    p = predict(model, part).p_first
    return -np.where(part.preference > 0.5, np.log(p), np.log1p(-p))


@pytest.mark.slow
def test_weights_that_do_not_follow_the_prompt_are_shared(tmp_path):
    part, prompts, _ = simulated(0.0)
    result = trained(ShrinkageDirichletPrior(), part, tmp_path / "shrunk")
    shared = trained(DirichletPrior(5.0, learn=True), part, tmp_path / "shared")
    model = result.loaded.model
    with torch.no_grad():
        found = model.predictive_weights(torch.from_numpy(prompts).float()).mean
    assert found.std(0).max() < 0.01
    assert model.weight_prior.tau < 0.15  # from .3
    worse = log_loss(model, part(420, 500)) - log_loss(shared.loaded.model, part(420, 500))
    assert worse.mean() < 3 * worse.std() / len(worse) ** 0.5 + 0.001
    parts = [entry for entry in result.log_history if "tau" in entry]
    assert parts[-1]["tau"] < parts[0]["tau"] <= 0.35
    assert parts[-1]["kl_map"] < 20  # nats for the whole data set


def test_weights_that_follow_the_prompt_are_found(tmp_path):
    part, prompts, truth = simulated(1.0)
    model = trained(ShrinkageDirichletPrior(), part, tmp_path).loaded.model
    with torch.no_grad():
        found = model.predictive_weights(torch.from_numpy(prompts).float()).mean.numpy()
    test = slice(420, 500)
    error = np.abs(found - truth)[test].mean()
    shared = np.abs(truth[:350].mean(0) - truth)[test].mean()
    assert error < 0.6 * shared
    assert model.weight_prior.tau > 0.6

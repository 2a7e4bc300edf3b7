import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.problems import assert_within

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.errors import InputError
from vrm_pyro.models.priors import ShrinkageNormalPrior
from vrm_pyro.models.ratings import GaussianRatings
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.settings.config import ModelConfig, check_settings
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.train import train

PROMPT = torch.tensor([2, 0, 1, 0, 2, 2, 1])


def fitted(hidden=6, features=2, **settings):
    torch.manual_seed(0)
    states = torch.randn(len(PROMPT), hidden) * torch.linspace(2.0, 0.5, hidden)
    module = ShrinkageNormalPrior(**settings).build(hidden, features)
    module.fit_responses(states, PROMPT)
    with torch.no_grad():
        module.loc.copy_(torch.randn(module.loc.shape) / 30)
        module.raw_scale.copy_(0.02 * torch.randn(module.raw_scale.shape))
        module.raw_tau.copy_(0.02 * torch.randn(module.raw_tau.shape))
    return module, states


def within(values):
    mean = torch.stack([values[p == PROMPT].mean(0) for p in range(3)])
    return values - mean[PROMPT]


def test_directions_are_principal_components_within_prompts():
    module, states = fitted()
    features = within(states) @ module.directions.T
    assert features.square().sum(-1).mean().item() == pytest.approx(1.0, abs=1e-5)
    covariance = features.T @ features
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-5
    assert module.directions.any(-1).tolist() == [True] * 4 + [False] * 2  # 7 responses less 3


def test_prompts_with_one_response_each_give_components_of_all_states():
    module, states = fitted()
    module.fit_responses(states, torch.arange(len(states)))
    features = (states - states.mean(0)) @ module.directions.T
    assert features.square().sum(-1).mean().item() == pytest.approx(1.0, abs=1e-5)


def test_a_draw_in_training_is_shared_within_a_prompt_and_apart_between_prompts():
    """Cov(loc_a, loc_b) = tau^2 sum_d s_d^2 phi_ad phi_bd for one prompt, 0 for two."""
    module, states = fitted()
    draws = torch.stack([module.train()(states, PROMPT).mean[:, 1] for _ in range(3_000)])
    draws = draws.detach()
    mean = module.eval()(states).mean[:, 1].detach()
    assert_within(draws.mean(0), mean, draws.std(0) / math.sqrt(3_000), 4.5)
    phi = states @ module.directions.T
    share = torch.exp(30 * module.raw_scale[1]).detach()
    expected = module.tau[1].detach() ** 2 * (phi * share**2) @ phi.T
    expected = expected * (PROMPT[:, None] == PROMPT[None])
    variance = expected.diag()
    error = ((variance[:, None] * variance + expected**2) / 3_000).sqrt()
    assert_within(torch.cov(draws.T), expected, error, 4.5)


def test_draws_of_predictions_have_the_moments_of_the_posterior():
    module, _ = fitted()
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([module.draw_map(generator).detach() for _ in range(4000)])
    scale = torch.exp(30 * module.raw_scale).detach() / 30
    assert_within(draws.mean(0), module.loc.detach(), scale / math.sqrt(4000), 4.5)
    scale[module.latent_dim :] = 0.0  # log sigma stays at its mean
    assert_within(draws.std(0), scale, scale / math.sqrt(8000) + 1e-6, 4.5)


def test_predictions_average_draws_and_their_spread_is_epistemic():
    torch.manual_seed(0)
    config = ModelConfig(feature_prior=ShrinkageNormalPrior(), head_draws=400)
    model = build_model(config, 6, 3, rated=False).eval()
    model.response_scaler.set_statistics(torch.full((6,), 0.5), torch.full((6,), 1.5))
    batch = FeatureBatch(
        prompts=torch.randn(2, 6),
        responses=torch.randn(4, 6),
        response_prompt=torch.tensor([0, 0, 1, 1]),
        pair_first=torch.tensor([0, 2]),
        pair_second=torch.tensor([1, 3]),
        preference=torch.ones(2),
        pair_weight=torch.ones(2),
        ratings=torch.zeros(4, 3),
        rating_mask=torch.zeros(4, 3, dtype=torch.bool),
    )
    weights = model.predictive_weights(batch.prompts).mean
    found = model.pair_uncertainty(batch)
    prior = model.feature_prior
    direction = (model.response_scaler(batch.responses) @ prior.directions.T)[[0, 2]]
    direction = direction - (model.response_scaler(batch.responses) @ prior.directions.T)[[1, 3]]
    variance = (prior.tau * torch.exp(30 * prior.raw_scale.T)).square()[:, : model.latent_dim]
    variance = direction.square() @ variance
    loading = weights @ model.reward().loading
    expected = model.reward().scale ** 2 * (loading.square() * variance).sum(-1)
    assert_within(found.epistemic, expected.detach(), expected.detach() * math.sqrt(2 / 400), 4.5)
    drawn = torch.stack(
        model.over_parameters(lambda: model._pair_probability(batch, model._latents(batch)))
    )
    error = drawn.std(0) / math.sqrt(400) + 1e-4
    assert_within(model.predict_pairs(batch).detach(), drawn.mean(0).detach(), error.detach(), 4.5)


def test_a_posterior_of_the_head_beside_it_is_refused():
    config = ModelConfig(feature_prior=ShrinkageNormalPrior(), bayesian_head=True)
    with pytest.raises(InputError, match="bayesian_head is True, but must be false: Shrinkage"):
        check_settings(config)


def simulated(num_prompts=300, hidden=12, seed=1):
    """Ratings of one objective linear in the state, of the other unrelated to it."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(num_prompts), 3)
    states = rng.normal(size=(len(owner), hidden)).astype(np.float32)
    slope = rng.normal(size=hidden) / math.sqrt(hidden)
    ratings = rng.normal(size=(len(owner), 2))
    ratings[:, 0] = states @ slope + 0.6 * ratings[:, 0]

    def part(low, high):
        inside = (owner >= low) & (owner < high)
        first = np.flatnonzero(inside)[::3]
        return SimpleNamespace(
            prompts=np.zeros((num_prompts, hidden), np.float32),
            responses=states,
            response_prompt=owner,
            pair_first=first,
            pair_second=first + 1,
            preference=(ratings[first, 0] > ratings[first + 1, 0]).astype(float),
            pair_weight=np.ones(len(first)),
            ratings=np.where(inside[:, None], ratings, np.nan),
            objectives=("a", "b"),
        )

    return part, states, ratings, owner


def test_it_is_the_ridge_regression_of_its_own_scales(tmp_path):
    """Posterior means of V against the closed form at the learned tau and sigma.

    Ratings have the fixed spread .3 around z, and z the learned sigma around its mean.
    """
    part, states, ratings, owner = simulated()
    config = ModelConfig(
        objective="integrated",
        feature_prior=ShrinkageNormalPrior(),
        scores="identity",
        latent_dim=0,
        hyperprior_weight=0.0,
        rating_power=1.0,
        rating_likelihood=GaussianRatings(0.3),
    )
    arguments = TrainArguments(
        output_dir=str(tmp_path), num_train_epochs=60, per_device_train_batch_size=64,
        learning_rate=3e-3, early_stopping_patience=60, metric_for_best_model="elbo",
        greater_is_better=True, seed=0, use_cpu=True, disable_tqdm=True, logging_steps=100,
    )  # fmt: skip
    model = train(config, arguments, part(0, 200), part(200, 250)).loaded.model
    prior = model.feature_prior
    tau = prior.tau.detach().numpy()
    assert tau[1] < 0.25 * tau[0]  # nothing tells the second objective
    unit = float(model.rating_scale), float(model.rating_loc)
    y = (ratings[:600, 0] - unit[1]) / unit[0]
    with torch.no_grad():
        phi = (model.response_scaler(torch.from_numpy(states)) @ prior.directions.T).numpy()
        sigma = prior(model.response_scaler(torch.from_numpy(states))).stddev[:600, 0].numpy()
        found = (tau[0] * phi @ (30 * prior.loc[0]).numpy())[600:]
    noise = sigma**2 + 0.09
    x = tau[0] * phi[:600] - np.average(tau[0] * phi[:600], axis=0, weights=1 / noise)
    precision = x.T @ (x / noise[:, None]) + np.eye(x.shape[1])
    ridge = np.linalg.solve(precision, x.T @ ((y - np.average(y, weights=1 / noise)) / noise))
    expected = tau[0] * phi[600:] @ ridge
    assert np.corrcoef(found, expected)[0, 1] > 0.99
    assert np.polyfit(expected, found, 1)[0] == pytest.approx(1.0, abs=0.1)
    share = torch.exp(30 * prior.raw_scale[0]).detach().numpy()
    ratio = np.log(share / np.diag(precision) ** -0.5)  # one by one, noise of the last steps
    assert abs(ratio.mean()) < 0.2


def test_doubt_within_a_prompt_adds_up_to_that_of_differences():
    """Of two responses the sum is that of their difference; of more, the mean over pairs is."""
    torch.manual_seed(0)
    prior = ShrinkageNormalPrior().build(6, 2).double()
    states, prompt = torch.randn(5, 6).double(), torch.tensor([0, 0, 1, 1, 1])
    prior.fit_responses(states, prompt)
    own = prior.variance_within(states, prompt)
    first, second = torch.tensor([0, 2, 2, 3]), torch.tensor([1, 3, 4, 4])
    gaps = prior.difference_variance(states, first, second)
    assert torch.allclose(own[:2].sum(0), gaps[0])
    assert torch.allclose(2 * own[2:].mean(0), gaps[1:].mean(0))
    lone = prior.variance_within(states, torch.arange(5))
    assert torch.equal(lone, torch.zeros_like(lone))

"""The Gaussian distribution of the global parameters."""

import pyro.distributions as dist
import pytest
import torch
from helpers.configs import network_config
from helpers.problems import Arrays, small_batch, small_model
from torch import nn

from vrm_pyro.models.checkpoint import LoadedModel, load_model, save_model
from vrm_pyro.models.epistemic.base import head_parameters, run_with
from vrm_pyro.models.epistemic.diagonal import DiagonalPosterior
from vrm_pyro.models.epistemic.laplace import LaplacePosterior
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.module import TrainingModule
from vrm_pyro.training.train import train


def with_head(prior_scale=1.0, num_draws=64):
    model = small_model(ratings=False)
    networks = {"weight_prior": model.weight_prior, "feature_prior": model.feature_prior}
    head = DiagonalPosterior(head_parameters(model.reward, networks), prior_scale, num_draws)
    model.parameter_posterior = head.double()
    return model


def test_it_takes_the_reward_and_the_last_layers():
    assert with_head().parameter_posterior.names == (
        "reward.loading",
        "reward.intercept",
        "reward.log_scale",
        "weight_prior.network.body.3.weight",
        "weight_prior.network.body.3.bias",
        "feature_prior.network.body.3.weight",
        "feature_prior.network.body.3.bias",
    )


@pytest.mark.parametrize("kind", [DiagonalPosterior, LaplacePosterior])
def test_prior_of_a_layer_does_not_grow_with_its_width(kind):
    """Matrices around 0 with s / sqrt(inputs); vectors and scalars around their start with s."""
    found = {"matrix": torch.randn(3, 16), "vector": torch.randn(3), "scalar": torch.tensor(0.4)}
    priors = dict(zip(found, kind(found, 0.8, 2).priors(), strict=True))
    assert torch.equal(priors["matrix"][0], torch.zeros(3, 16))
    assert priors["matrix"][1].item() == pytest.approx(0.2)
    for name in ("vector", "scalar"):
        assert torch.equal(priors[name][0], found[name])
        assert priors[name][1].item() == pytest.approx(0.8)


@pytest.mark.parametrize("kind", [DiagonalPosterior, LaplacePosterior])
def test_predictions_average_the_draws_of_the_parameters(kind):
    """A copy of the model at each draw, with point estimates, gives the parts."""
    model, batch = with_head(2.0, 6), small_batch(ratings=False)
    uncertain = {name: value.float() for name, value in model.named_parameters()
                 if name in model.parameter_posterior.names}  # fmt: skip
    head = kind(uncertain, 2.0, 6)
    if isinstance(head, LaplacePosterior):
        head.fit(torch.eye(head.size, dtype=torch.float64))
    model.parameter_posterior = head.double()
    plain = small_model(ratings=False).eval()
    with torch.no_grad():
        found, scores = model.predict_pairs(batch), model.predict_responses(batch).score_mean
        parts = []
        for values in head.prediction_draws(model):
            plain.load_state_dict(values, strict=False)
            parts.append((plain.predict_pairs(batch), plain.predict_responses(batch).score_mean))
        each, each_score = map(torch.stack, zip(*parts, strict=True))
    assert (each.std(0) > 1e-3).all()
    assert torch.allclose(found, each.mean(0))
    assert torch.allclose(scores, each_score.mean(0))


def test_divergence_is_that_of_normals():
    model = with_head(0.7)
    with torch.no_grad():
        for raw in model.parameter_posterior.raw_scales:
            raw.normal_()
    expected = 0.0
    locs = dict(model.named_parameters())
    for i, (name, scale) in enumerate(
        zip(model.parameter_posterior.names, model.parameter_posterior.scales(), strict=True)
    ):
        prior = dist.Normal(
            model.parameter_posterior.get_buffer(f"prior_loc_{i}"),
            model.parameter_posterior.get_buffer(f"prior_scale_{i}"),
        )
        q = dist.Normal(locs[name], scale)
        expected = expected + torch.distributions.kl_divergence(q, prior).sum()
    assert model.parameter_posterior.divergence(model).item() == pytest.approx(
        expected.item(), rel=1e-12
    )


def test_draws_have_loc_and_scale():
    model = with_head(num_draws=4000)
    draws = model.parameter_posterior.prediction_draws(model)
    for name, scale in zip(
        model.parameter_posterior.names, model.parameter_posterior.scales(), strict=True
    ):
        values = torch.stack([draw[name] for draw in draws])
        loc = dict(model.named_parameters())[name]
        assert ((values.mean(0) - loc).abs() < 5 * scale / 4000**0.5).all()
        assert torch.allclose(values.std(0), scale, rtol=5 / (2 * 4000) ** 0.5)


def test_run_with_puts_values_in_place_and_takes_them_out():
    model = nn.Linear(2, 1)
    x, weight = torch.ones(1, 2), torch.tensor([[3.0, 4.0]])
    before = model(x)
    inside = run_with(model, {"weight": weight, "bias": torch.zeros(1)}, lambda: model(x))
    assert inside.item() == 7
    assert torch.equal(model(x), before)


def test_gradients_reach_scales_and_locs():
    model, batch = with_head(), small_batch(ratings=False)
    loss = model.with_drawn_head(lambda: model.conditionals(batch).reward.loading.square().sum())
    loss.backward()
    assert model.reward.loading.grad.abs().min() > 0
    assert model.parameter_posterior.raw_scales[0].grad.abs().min() > 0


def test_variance_is_ambiguity_plus_epistemic():
    """By brute force: draws of the parameters, then of w and z given each of them."""
    model, batch = with_head(0.5, num_draws=250), small_batch(ratings=False)
    with torch.no_grad():
        for raw in model.parameter_posterior.raw_scales:
            raw.add_(2.0)
        found = model.pair_uncertainty(batch)
        deltas = []
        for values in model.parameter_posterior.prediction_draws(model):

            def draw():
                w = model.predictive_weights(batch.prompts).sample((40,))
                z = model.predictive_features(batch.responses).sample((40,))
                reward = model.reward()
                scores = reward.scores(z)
                return reward.delta(
                    w[:, batch.pair_prompt],
                    scores[:, batch.pair_first],
                    scores[:, batch.pair_second],
                )

            deltas.append(run_with(model, values, draw))
        total = torch.cat(deltas).var(0)
    assert (found.epistemic > 0).all()
    assert (found.ambiguity > 0).all()
    assert torch.allclose(found.total, total, rtol=0.05)
    responses = model.predict_responses(batch)
    parts = responses.reward
    local = parts.from_weights + parts.from_features + parts.interaction
    assert torch.allclose(parts.variance, local + parts.epistemic)


def test_without_spread_predictions_are_the_point_estimate():
    model, batch = with_head(), small_batch(ratings=False)
    with torch.no_grad():
        for raw in model.parameter_posterior.raw_scales:
            raw.fill_(-40.0)
        spread = model.predict_pairs(batch)
        assert model.pair_uncertainty(batch).epistemic.max() < 1e-12
        model.parameter_posterior = None
        assert torch.allclose(model.predict_pairs(batch), spread, atol=1e-9)


def test_predictions_depend_on_their_text_alone():
    model, batch = with_head(), small_batch(ratings=False)
    with torch.no_grad():
        once = model.predict_pairs(batch)
        torch.manual_seed(3)
        assert torch.equal(model.predict_pairs(batch), once)


def test_divergence_counts_once_for_the_data_set():
    """Mean over batches of the loss per prompt holds KL / N, whatever the batch size."""
    config = network_config(bayesian_head=True, objective="integrated", hyperprior_weight=0)
    model, batch = with_head(), small_batch(6, ratings=False)
    few, many = TrainingModule(model, config, 6), TrainingModule(model, config, 600)
    losses = []
    for module in (few, many):
        torch.manual_seed(4)
        losses.append(module(**batch.as_dict())["loss"])
    expected = model.parameter_posterior.divergence(model) * (1 / 6 - 1 / 600)
    assert (losses[0] - losses[1]).item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.slow
def test_epistemic_variance_falls_with_more_data(tmp_path):
    """Of the square of a reward difference, twenty times the comparisons leave less open."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(3, generator=generator)
    sizes, means = (30, 600), []
    test = small_batch(50, ratings=False, seed=9, dtype=torch.float32)
    for size in sizes:
        batch = small_batch(size, ratings=False, dtype=torch.float32)
        gap = (batch.responses[batch.pair_first] - batch.responses[batch.pair_second]) @ direction
        source = Arrays(batch)
        labels = torch.bernoulli(torch.sigmoid(2 * gap), generator=generator)
        source.preference = labels.double().numpy()
        arguments = TrainArguments(
            output_dir=str(tmp_path / str(size)), max_steps=120, use_cpu=True, disable_tqdm=True,
            eval_strategy="no", save_strategy="no", load_best_model_at_end=False,
            early_stopping_patience=0, learning_rate=1e-2, weight_decay=0.0,
        )  # fmt: skip
        config = network_config(bayesian_head=True, num_objectives=2, latent_dim=2)
        model = train(config, arguments, source, source).loaded.model
        with torch.no_grad():
            found = model.pair_uncertainty(test)
            means.append((found.epistemic.mean() / found.mean.square().mean()).item())
    assert means[1] < 0.5 * means[0]


def test_saved_and_loaded(tmp_path):
    config = network_config(bayesian_head=True, num_objectives=3, latent_dim=2)

    model = build_model(config, 3, 3, rated=False)
    save_model(LoadedModel(model, config, ("a", "b", "c"), False, {}), tmp_path)
    again = load_model(tmp_path).model
    batch = small_batch(ratings=False, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(again.predict_pairs(batch), model.eval().predict_pairs(batch))

"""The Laplace approximation of the global parameters against closed forms, and its variance."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.configs import network_config
from helpers.problems import Arrays, small_batch
from torch.distributions import MultivariateNormal, kl_divergence

from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.diagnostics.metrics.auroc import auroc
from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import WEIGHTS_FILE, LoadedModel, load_model, save_model
from vrm_pyro.models.guides import LabelBlindGuide
from vrm_pyro.models.likelihoods import BradleyTerry, Davidson, Lapse
from vrm_pyro.models.priors import (
    ConditionalLogisticNormalPrior,
    ConditionalNormalPrior,
    CorrelatedNormalPrior,
    DirichletPrior,
    KernelDirichletPrior,
    NormalPrior,
)
from vrm_pyro.models.ratings import GaussianRatings, OrdinalRatings
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.settings.config import check_settings
from vrm_pyro.prediction.predict import predict
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.laplace_fit import (
    fit_laplace,
    gaussian_gradients,
    outcome_gradients,
    parameter_information,
)
from vrm_pyro.training.module import TrainingModule
from vrm_pyro.training.train import train

LAPLACE = network_config(bayesian_head=True, head_covariance="laplace", latent_dim=2)
LINEAR = replace(
    LAPLACE,
    weight_prior=DirichletPrior(1.5),
    feature_prior=ConditionalNormalPrior(0, 0.0, 0.4, learn_scale=False),
    rating_likelihood=GaussianRatings(0.6, learn_scale=False),
)


def built(config, rated, num_objectives=3, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    model = build_model(config, 3, num_objectives, rated).to(dtype)
    return model.eval()


def dataset(batch):
    return PromptDataset(Arrays(batch))


def position(head, name):
    """Return where a parameter stands in theta."""
    sizes = [loc.numel() for loc, _ in head.priors()]
    start = sum(sizes[: head.names.index(name)])
    return slice(start, start + sizes[head.names.index(name)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [1.0, 0.3])
def test_bayesian_linear_regression_on_ratings(power, dtype):
    """y = A (W x + c) + b + noise: the posterior of b, W and c given A is exactly Gaussian."""
    model = built(replace(LINEAR, rating_power=power), rated=True, dtype=dtype)
    batch = small_batch(30)
    batch = replace(batch, pair_weight=torch.zeros_like(batch.pair_weight))
    fit_laplace(model, dataset(batch))
    head, loading = model.parameter_posterior, model.reward.loading.detach().double()
    assert "reward.loading" not in head.names
    noise = 0.4**2 * loading @ loading.T + 0.6**2 / power * torch.eye(3)
    expected = torch.diag(head.prior_precision().double())
    weight = position(head, "feature_prior.network.body.1.weight")
    bias = position(head, "feature_prior.network.body.1.bias")
    level = position(head, "reward.intercept")
    states = torch.from_numpy(Arrays(batch).responses).double()
    for state, seen in zip(states, batch.rating_mask, strict=True):
        design = torch.zeros(3, head.size, dtype=torch.float64)
        design[:, weight] = torch.kron(loading, state.unsqueeze(0))
        design[:, bias], design[:, level] = loading, torch.eye(3)
        design = design[seen]
        expected += design.T @ torch.linalg.solve(noise[seen][:, seen], design)
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 2e-5}
    found = head.covariance().double()
    assert batch.rating_mask.double().mean() < 1
    assert torch.allclose(found, torch.linalg.inv(expected), **{"atol": 1e-6, **tolerance})


def test_logistic_regression_on_pairs():
    """Two equal scores and features without spread: Delta = a w'(x1 - x2), whatever w."""
    config = replace(LINEAR, latent_dim=1, feature_prior=replace(LINEAR.feature_prior,
                     initial_scale=1e-3))  # fmt: skip
    model = built(config, rated=False, num_objectives=2)
    with torch.no_grad():
        model.reward.loading.fill_(1.7)
    batch = small_batch(40, 2, ratings=False)
    found = parameter_information(model, dataset(batch))
    scale = 1.7 * model.reward().scale.item()
    gap = scale * (batch.responses[batch.pair_first] - batch.responses[batch.pair_second])
    layer = dict(model.named_parameters())["feature_prior.network.body.1.weight"].detach()

    def loss(weight):
        each = torch.nn.functional.binary_cross_entropy_with_logits(
            gap @ weight, batch.preference, reduction="none"
        )
        return (batch.pair_weight * each).sum()

    hessian = torch.autograd.functional.hessian(loss, layer[0])
    where = position(model.parameter_posterior, "feature_prior.network.body.1.weight")
    assert torch.allclose(found[where, where], hessian, rtol=1e-4)
    found[where, where] = 0
    assert found.abs().max() < 1e-3 * hessian.abs().max()


@pytest.mark.parametrize("likelihood", [BradleyTerry(), Lapse(0.1, learn=False), Davidson(0.7)])
def test_information_of_a_label(likelihood):
    """E of the outer product of the score of log E p(c | Delta), by finite differences."""
    likelihood = likelihood.build()
    moments = torch.tensor([[0.3, 0.5], [-1.2, 2.0]], dtype=torch.float64)

    def chances(mean, variance):
        x = torch.linspace(-9, 9, 20001, dtype=torch.float64)
        mass = torch.exp(-0.5 * x**2)
        values = likelihood.outcome_probabilities(mean + variance.sqrt() * x)
        return (values * (mass / mass.sum()).unsqueeze(-1)).sum(0)

    root = outcome_gradients(likelihood, *moments.unbind(-1)).detach()
    for (mean, variance), found in zip(moments, root, strict=True):
        step = 1e-4
        slopes = torch.stack(
            [
                (chances(mean + step, variance) - chances(mean - step, variance)) / (2 * step),
                (chances(mean, variance + step) - chances(mean, variance - step)) / (2 * step),
            ]
        ).detach()
        expected = slopes @ torch.diag(1 / chances(mean, variance).detach()) @ slopes.T
        assert torch.allclose(found.T @ found, expected, rtol=1e-5, atol=1e-8)


def test_information_of_ratings():
    """It is the Hessian of KL(N(m, C + D) || N(m', C' + D)) at m' = m, C' = C."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    rows, columns = torch.triu_indices(3, 3)
    law = torch.cat([torch.randn(3, generator=generator).double(), (root @ root.T)[rows, columns]])
    precision = torch.tensor([2.0, 0.0, 0.7], dtype=torch.float64)
    seen = precision > 0

    def marginal(values):
        covariance = values.new_zeros(3, 3).index_put((rows, columns), values[3:])
        covariance = covariance + covariance.triu(1).T
        noise = torch.diag(1 / precision[seen])
        return MultivariateNormal(values[:3][seen], covariance[seen][:, seen] + noise)

    hessian = torch.autograd.functional.hessian(
        lambda values: kl_divergence(marginal(law), marginal(values)), law
    )
    found = gaussian_gradients(law.unsqueeze(0), precision.unsqueeze(0))[0]
    assert torch.allclose(found.T @ found, hessian, atol=1e-10)


def small_fitted(num_draws=32):
    model = built(replace(LAPLACE, head_draws=num_draws), rated=True)
    fit_laplace(model, dataset(small_batch(12)))
    return model


def test_divergence_is_that_of_normals():
    model = small_fitted()
    head = model.parameter_posterior
    theta = head.flatten(head.values(model)).detach()
    q = MultivariateNormal(theta, head.covariance())
    loc = head.flatten([loc for loc, _ in head.priors()])
    prior = MultivariateNormal(loc, torch.diag(1 / head.prior_precision()))
    found = head.divergence(model).item()
    assert found == pytest.approx(kl_divergence(q, prior).item(), rel=1e-9)


def test_draws_have_the_covariance():
    model = small_fitted(4000)
    head = model.parameter_posterior
    theta = head.flatten(head.values(model)).detach()
    draws = torch.stack([head.flatten(list(d.values())) for d in head.prediction_draws(model)])
    direction = torch.randn(head.size, 8, dtype=torch.float64)
    spread = ((draws.detach() - theta) @ direction).var(0)
    expected = (direction * (head.covariance() @ direction)).sum(0)
    assert torch.allclose(spread, expected, rtol=5 * (2 / 4000) ** 0.5)
    fresh = torch.stack([head.flatten(list(head.draw(model).values())) for _ in range(300)])
    ratio = ((fresh.detach() - theta) @ direction).var(0) / expected
    assert ((ratio - 1).abs() < 5 * (2 / 300) ** 0.5).all()


def test_variance_of_the_difference_is_that_of_its_linearisation():
    """Weights that no row moves: E Delta is linear in theta, so draws give J C J' exactly."""
    model = built(replace(LINEAR, head_draws=1000), rated=False)
    batch = small_batch(40, ratings=False)
    fit_laplace(model, dataset(batch))
    head, reward = model.parameter_posterior, model.reward()
    gap = batch.responses[batch.pair_first] - batch.responses[batch.pair_second]
    direction = reward.scale * torch.full((3,), 1 / 3, dtype=torch.float64) @ reward.loading
    jacobian = torch.zeros(batch.num_pairs, head.size, dtype=torch.float64)
    where = position(head, "feature_prior.network.body.1.weight")
    jacobian[:, where] = torch.einsum("d,nh->ndh", direction, gap).flatten(1).detach()
    exact = torch.einsum("np,pq,nq->n", jacobian, head.covariance(), jacobian)
    with torch.no_grad():
        found = model.pair_uncertainty(batch).epistemic
    assert torch.allclose(found, exact, rtol=5 * (2 / 1000) ** 0.5)


def test_before_the_fit_it_is_a_point_estimate():
    model, batch = built(LAPLACE, rated=False), small_batch(ratings=False)
    with torch.no_grad():
        assert model.pair_uncertainty(batch).epistemic.abs().max() == 0
        before = model.predict_pairs(batch)
        model.parameter_posterior = None
        assert torch.equal(model.predict_pairs(batch), before)


@pytest.mark.parametrize(
    "changes",
    [
        {"weight_prior": ConditionalLogisticNormalPrior()},
        {"weight_prior": KernelDirichletPrior(4)},
        {"feature_prior": CorrelatedNormalPrior()},
        {"likelihood": Davidson()},
        {"rating_likelihood": OrdinalRatings()},
        {"scores": "identity", "latent_dim": 3},
        {
            "mode": "vib",
            "weight_prior": DirichletPrior(),
            "feature_prior": NormalPrior(),
            "guide": LabelBlindGuide(),
            "objective": "integrated",
        },
    ],
    ids=lambda changes: "-".join(changes),
)
def test_every_kind_of_part_has_its_information(changes):
    config = replace(LAPLACE, **changes)
    check_settings(config)
    model, batch = built(config, rated=True), small_batch(8)
    batch = replace(batch, ratings=torch.sigmoid(batch.ratings))
    found = parameter_information(model, dataset(batch))
    values = torch.linalg.eigvalsh(found)
    assert values.min() > -1e-9 * values.max()
    assert values.max() > 0
    # Of the same rows twice, twice as much: it is a sum over rows.
    again = replace(batch, pair_weight=2 * batch.pair_weight)
    without = parameter_information(
        model, dataset(replace(batch, pair_weight=0 * batch.pair_weight))
    )
    doubled = parameter_information(model, dataset(again))
    assert torch.allclose(doubled - found, found - without, atol=1e-8 * values.max())


def test_penalty_is_the_priors_and_counts_once():
    config = replace(LAPLACE, objective="integrated", hyperprior_weight=0.0)
    model, batch = built(config, rated=False).train(), small_batch(6, ratings=False)
    losses = []
    for population in (6, 600):
        torch.manual_seed(4)
        losses.append(TrainingModule(model, config, population)(**batch.as_dict())["loss"].item())
    theta = model.parameter_posterior.flatten(model.parameter_posterior.values(model))
    loc = model.parameter_posterior.flatten([loc for loc, _ in model.parameter_posterior.priors()])
    penalty = 0.5 * (model.parameter_posterior.prior_precision() * (theta - loc) ** 2).sum().item()
    assert losses[0] - losses[1] == pytest.approx(penalty * (1 / 6 - 1 / 600), rel=1e-9)


def arguments(path, **changes):
    return TrainArguments(
        output_dir=str(path), use_cpu=True, disable_tqdm=True, learning_rate=1e-2,
        weight_decay=0.0, **changes,
    )  # fmt: skip


def test_saved_and_loaded_and_resumed(tmp_path):
    source = Arrays(small_batch(20, ratings=False, dtype=torch.float32))
    result = train(LAPLACE, arguments(tmp_path, max_steps=4, save_steps=2, eval_steps=2,
                   eval_strategy="steps", save_strategy="steps"), source, source)  # fmt: skip
    model = result.loaded.model
    assert model.parameter_posterior.fitted
    again = train(LAPLACE, arguments(tmp_path, max_steps=4, save_steps=2, eval_steps=2,
                  eval_strategy="steps", save_strategy="steps", resume_from_checkpoint="true"),
                  source, source)  # fmt: skip
    assert torch.equal(
        again.loaded.model.parameter_posterior.precision_factor,
        model.parameter_posterior.precision_factor,
    )
    folder = tmp_path / "saved"
    folder.mkdir()
    save_model(result.loaded, folder)
    loaded = load_model(folder)
    assert loaded.config.head_covariance == "laplace"
    assert np.array_equal(predict(loaded.model, source).p_first, predict(model, source).p_first)
    assert torch.equal(
        loaded.model.parameter_posterior.divergence(loaded.model),
        model.parameter_posterior.divergence(model),
    )


def test_a_model_saved_before_the_fit_is_refused(tmp_path):
    model = built(LAPLACE, rated=False, dtype=torch.float32)
    save_model(LoadedModel(model, LAPLACE, ("a", "b", "c"), False, {}), tmp_path)
    with pytest.raises(InputError, match=f"{WEIGHTS_FILE}.*shape"):
        load_model(tmp_path)


def test_too_many_parameters_are_refused():
    config = replace(LAPLACE, feature_prior=ConditionalNormalPrior(1000, 0.5, 0.5), latent_dim=8)
    with pytest.raises(InputError, match=r"at most 7000.*Lower feature_prior.hidden_size.*"):
        built(config, rated=False)


def test_without_a_head_it_is_refused():
    with pytest.raises(InputError, match="head_covariance is laplace.*bayesian_head"):
        check_settings(network_config(head_covariance="laplace"))


def planted(num_pairs, off_domain, generator):
    """Return pairs whose states fill three directions of six, or lie across all of them.

    The directions are oblique, so each input alone varies as much in one set as in the other.
    """
    basis = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(5)))[0]
    used = basis[:, 3:] if off_domain else basis[:, :3]
    states = torch.randn(2 * num_pairs, 3, generator=generator) @ used.T
    gap = states[::2] - states[1::2]
    truth = basis[:, 0]
    preference = torch.bernoulli(torch.sigmoid(2 * gap @ truth), generator=generator)
    return SimpleNamespace(
        prompts=np.zeros((num_pairs, 6), np.float32),
        responses=states.numpy(),
        response_prompt=np.arange(num_pairs).repeat(2),
        pair_first=np.arange(0, 2 * num_pairs, 2),
        pair_second=np.arange(1, 2 * num_pairs, 2),
        preference=preference.double().numpy(),
        pair_weight=np.ones(num_pairs),
        ratings=np.empty((2 * num_pairs, 0)),
        objectives=(),
    )


@pytest.mark.slow
def test_variance_grows_where_no_training_state_points(tmp_path):
    generator = torch.Generator().manual_seed(0)
    rows, inside, outside = (planted(n, off, generator) for n, off in
                             ((600, False), (200, False), (200, True)))  # fmt: skip
    areas = {}
    for covariance in ("diagonal", "laplace"):
        config = replace(LAPLACE, head_covariance=covariance, num_objectives=2,
                         feature_prior=ConditionalNormalPrior(0, 0.0, 0.5))  # fmt: skip
        model = train(config, arguments(tmp_path / covariance, max_steps=50, eval_strategy="no",
                      save_strategy="no", load_best_model_at_end=False,
                      early_stopping_patience=0), rows, rows).loaded.model  # fmt: skip
        found = []
        for source in (inside, outside):
            with torch.no_grad():
                found.append(model.pair_uncertainty(PromptDataset(source).batch()).epistemic)
        off = np.arange(400) >= 200
        areas[covariance] = auroc(torch.cat(found).numpy(), off)
    assert areas["laplace"] > 0.95, areas
    assert areas["diagonal"] < 0.6, areas

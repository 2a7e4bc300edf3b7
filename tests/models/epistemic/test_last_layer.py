"""The Laplace posterior of the last layer of a Bradley-Terry model."""

import pytest
import torch
from helpers.problems import Arrays, small_batch

from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import LoadedModel, load_model, save_model
from vrm_pyro.models.distributions import TextStreams
from vrm_pyro.models.epistemic.last_layer import LastLayerPosterior
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.settings.config import ModelConfig, check_settings
from vrm_pyro.training.laplace_fit import fit_laplace

CONFIG = ModelConfig(
    architecture="bradley_terry",
    bayesian_head=True,
    head_covariance="laplace",
    head_prior_scale=2.0,
    head_draws=7,
    head_size=6,
    head_dropout=0.3,
)


@pytest.fixture
def batch():
    return small_batch(8, dtype=torch.float32)


@pytest.fixture
def model(batch):
    torch.manual_seed(0)
    found = build_model(CONFIG, batch.prompts.shape[1], 0, False).eval()
    fit_laplace(found, PromptDataset(Arrays(batch)))
    return found


def test_nothing_is_uncertain_before_the_fit(batch):
    torch.manual_seed(0)
    model = build_model(CONFIG, batch.prompts.shape[1], 0, False).eval()
    assert (model.pair_uncertainty(batch).epistemic == 0).all()
    expected = torch.sigmoid(model.deltas(batch))
    assert torch.allclose(model.predict_pairs(batch), expected, atol=1e-6)


def test_covariance_is_that_of_the_log_posterior(model, batch):
    """The inverse Hessian of -log posterior in the last layer, by automatic differentiation."""
    last = model.head[-1]
    value = last.weight.detach().flatten().double()
    inputs = model.last_inputs(batch.responses).detach().double()
    gap = inputs[batch.pair_first] - inputs[batch.pair_second]
    weight, label = batch.pair_weight.double(), batch.preference.double()

    def loss(v):
        delta = gap @ v
        log_lik = label * torch.nn.functional.logsigmoid(delta)
        log_lik = log_lik + (1 - label) * torch.nn.functional.logsigmoid(-delta)
        prior = (v**2).sum() * len(v) / (2 * CONFIG.head_prior_scale**2)
        return prior - (weight * log_lik).sum()

    hessian = torch.autograd.functional.hessian(loss, value)
    expected = torch.einsum("ni,ij,nj->n", gap, torch.linalg.inv(hessian), gap)
    found = model.pair_uncertainty(batch)
    assert found.epistemic.detach().numpy() == pytest.approx(expected.numpy(), rel=1e-4)
    assert (found.ambiguity == 0).all()


@torch.no_grad()
def test_probability_integrates_over_the_posterior(model, batch):
    stream = torch.Generator().manual_seed(1)
    draws = model.draw_rewards(batch, 40_000, TextStreams(stream, stream, stream))
    delta = draws[:, batch.pair_first] - draws[:, batch.pair_second]
    mean, _, variance = model.pair_uncertainty(batch)
    error = delta.std(0) / 40_000**0.5
    assert ((delta.mean(0) - mean).abs() < 5 * error).all()
    assert delta.var(0) == pytest.approx(variance, rel=0.05)
    chance = torch.sigmoid(delta)
    error = chance.std(0) / 40_000**0.5
    assert ((chance.mean(0) - model.predict_pairs(batch)).abs() < 5 * error + 1e-5).all()


@torch.no_grad()
def test_fixed_draws_lie_around_the_estimate(model, batch):
    loc, variance = model.reward_mixture(batch, 64)
    assert loc.shape == (8, 1, batch.num_responses)  # 7 rounded up
    assert torch.allclose(loc.mean((0, 1)), model.rewards(batch.responses), atol=1e-5)
    assert (variance == 0).all()


def test_it_is_saved_with_its_covariance(model, batch, tmp_path):
    save_model(LoadedModel(model, CONFIG, (), False, {}), tmp_path)
    again = load_model(tmp_path).model
    assert torch.equal(again.predict_pairs(batch), model.predict_pairs(batch))
    assert again.last_layer.fitted


def test_fit_takes_the_prior_alone_without_information():
    posterior = LastLayerPosterior(3, 2.0, 4)
    posterior.fit(torch.zeros(3, 3, dtype=torch.float64))
    inputs = torch.eye(3)
    assert posterior.variance(inputs) == pytest.approx(torch.full((3,), 4 / 3))


@pytest.mark.parametrize("change", [{"head_covariance": "diagonal"}, {"ensemble_size": 3}])
def test_other_posteriors_of_a_baseline_are_refused(change):
    settings = {"architecture": "bradley_terry", "bayesian_head": True}
    with pytest.raises(InputError, match="a posterior of the last"):
        check_settings(ModelConfig(**settings, **({"head_covariance": "laplace"} | change)))

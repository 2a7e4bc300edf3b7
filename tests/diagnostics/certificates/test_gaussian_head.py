import copy
import math

import pytest
import torch
from helpers.problems import small_batch, small_model

from vrm_pyro.diagnostics.certificates import GaussianHead, HeadParameters
from vrm_pyro.diagnostics.certificates.head_rule import frozen_copy, rule_of
from vrm_pyro.errors import InputError
from vrm_pyro.models.reward import LinearReward

REWARD = {"reward.loading", "reward.intercept", "reward.log_scale"}
NETWORKS = {
    f"{prior}.network.body.3.{name}"
    for prior in ("weight_prior", "feature_prior")
    for name in ("weight", "bias")
}


def test_theta_is_the_trained_reward():
    model = small_model()
    parameters = HeadParameters.of(model)
    assert set(parameters.shapes) == REWARD
    assert parameters.size == 3 * 2 + 3 + 1
    values = parameters.unflatten(parameters.trained, model.reward.intercept)
    for name, value in values.items():
        assert torch.equal(value, model.get_parameter(name).detach())


def test_what_is_not_learned_is_left_out():
    model = small_model(latent_dim=3)
    model.reward = LinearReward(3, 3, identity=True, learn_scale=False)
    assert set(HeadParameters.of(model).shapes) == {"reward.intercept"}


def test_last_layers_of_the_prior_networks():
    model = small_model()
    parameters = HeadParameters.of(model, "reward_and_networks")
    assert set(parameters.shapes) == REWARD | NETWORKS
    assert model.weight_prior.network.body[-1] is model.get_submodule(
        "weight_prior.network.body.3"
    )
    # Hidden size 4: K + 1 outputs of the weights' network, 2 d_z of the features'.
    assert parameters.size == 10 + (4 + 1) * 4 + (4 + 1) * 4


def test_priors_without_a_network():
    with pytest.raises(InputError, match="weight_prior of this model has no network"):
        HeadParameters.of(small_model("vib"), "reward_and_networks")


def test_unknown_head():
    with pytest.raises(InputError, match="must be one of reward, reward_and_networks"):
        HeadParameters.of(small_model(), "tail")


def test_kl_is_the_closed_form():
    parameters = HeadParameters.of(small_model())
    prior = GaussianHead.prior(parameters, 0.2)
    generator = torch.Generator().manual_seed(0)
    shift = torch.randn(parameters.size, generator=generator, dtype=torch.float64)
    scale = 0.1 + torch.rand(parameters.size, generator=generator, dtype=torch.float64)
    posterior = GaussianHead(parameters.trained + shift, scale)
    expected = 0.5 * sum(
        (s / 0.2) ** 2 + (d / 0.2) ** 2 - 1 - 2 * math.log(s / 0.2)
        for s, d in zip(scale.tolist(), shift.tolist(), strict=True)
    )
    assert float(posterior.kl(prior)) == pytest.approx(expected, rel=1e-12)
    assert float(prior.kl(prior)) == 0


def test_draws_have_loc_and_scale():
    parameters = HeadParameters.of(small_model())
    generator = torch.Generator().manual_seed(0)
    posterior = GaussianHead.prior(parameters, 0.3)
    draws = torch.stack([posterior.draw(generator) for _ in range(20_000)])
    error = 0.3 / 20_000**0.5
    assert ((draws.mean(0) - parameters.trained).abs() < 5 * error).all()
    assert ((draws.std(0) - 0.3).abs() < 5 * error / 2**0.5).all()


@pytest.mark.parametrize(
    ("mode", "head"),
    [("conditional", "reward"), ("conditional", "reward_and_networks"), ("vib", "reward")],
)
def test_rule_is_the_model_with_other_parameters(mode, head):
    """Whatever is computed once for all draws, theta predicts what a model with theta would."""
    model, batch = small_model(mode), small_batch(6)
    parameters = HeadParameters.of(model, head)
    theta = parameters.trained + 0.4 * torch.randn(parameters.size, dtype=torch.float64)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, value in parameters.unflatten(theta, model.reward.intercept).items():
            other.get_parameter(name).copy_(value)
        expected = other.predict_pairs(batch)
        assert (expected - model.predict_pairs(batch)).abs().max() > 0.01
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with frozen_copy(model) as copied:
        rule = rule_of(copied, parameters, batch)
        assert torch.allclose(rule(theta), expected, atol=1e-12)
        assert torch.allclose(rule(parameters.trained), model.predict_pairs(batch), atol=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())

"""What every reward model answers, whichever of the two it is."""

import pytest
import torch
from helpers.configs import network_config
from helpers.problems import small_batch

from vrm_pyro.models.distributions import TextStreams
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.models.settings.build import build_model

CONFIGS = {
    "vrm": network_config(),
    "vrms": network_config(ensemble_size=3),
    "bradley_terry": network_config(architecture="bradley_terry", head_dropout=0.0),
    "ensemble": network_config(architecture="bradley_terry", ensemble_size=3, head_dropout=0.0),
}


@pytest.fixture(params=CONFIGS)
def case(request):
    torch.manual_seed(0)
    batch = small_batch()
    model = build_model(CONFIGS[request.param], batch.prompts.shape[-1], 4, rated=False)
    return request.param, model.double().eval(), batch.to(torch.float64)


@torch.no_grad()
def test_shapes_and_kinds(case):
    name, model, batch = case
    assert isinstance(model, RewardModel)
    latent = name.startswith("vrm")
    assert (model.num_objectives > 0) == (model.latent_dim > 0) == latent
    assert (model.members[0].predictive_latents(batch) is not None) == latent
    found = model.predict_responses(batch)
    assert (found.weight_mean is not None) == latent
    chance = model.predict_pairs(batch)
    assert chance.shape == (batch.num_pairs,)
    assert torch.allclose(
        chance + model.predict_pairs(batch.swap_pairs()), torch.ones(()).double()
    )
    assert not model.scores_are_ratings
    assert model.rating_unit == (0.0, 1.0)
    model.set_rating_unit(3.0, 2.0)
    assert model.rating_unit == ((3.0, 2.0) if latent else (0.0, 1.0))


@torch.no_grad()
def test_moments_mixture_and_draws_agree(case):
    name, model, batch = case
    moments = model.predict_responses(batch).reward
    loc, variance = model.reward_mixture(batch, 512)
    assert loc.shape == variance.shape
    assert loc.shape[-1] == batch.num_responses
    sd = moments.variance.sqrt()
    assert ((loc.mean((0, 1)) - moments.mean).abs() <= 0.02 * sd + 1e-9).all()
    stream = torch.Generator().manual_seed(1)
    draws = model.draw_rewards(batch, 20_000, TextStreams(stream, stream, stream))
    assert draws.shape == (20_000, batch.num_responses)
    error = draws.std(0) / 20_000**0.5
    assert ((draws.mean(0) - moments.mean).abs() < 4.5 * error + 1e-9).all()
    total = (variance.mean((0, 1)) + loc.var((0, 1), correction=0)).sqrt()
    assert torch.allclose(draws.std(0), total, rtol=0.03, atol=1e-9)
    if name == "vrm":
        assert torch.allclose(total, sd, rtol=0.01)

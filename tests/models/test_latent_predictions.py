"""Closed forms over the map of a shrinkage prior against draws of it."""

import pytest
import torch
from helpers.problems import assert_within, small_batch, small_model

from vrm_pyro.diagnostics.best_of_n.rules import _p_best
from vrm_pyro.models.distributions import Gaussian, weight_moments
from vrm_pyro.models.epistemic.shrinkage import ShrinkagePosterior
from vrm_pyro.models.priors import ShrinkageNormalPrior
from vrm_pyro.models.reward import delta_moments, reward_moments
from vrm_pyro.prediction.contributions import contributions
from vrm_pyro.prediction.group_rewards import NUM_NODES, group_rewards

DRAWS = 1024


@pytest.fixture(scope="module")
def model():
    model = small_model(ratings=False)
    torch.manual_seed(3)
    prior = ShrinkageNormalPrior().build(3, 2).double()
    prior.fit_responses(torch.randn(40, 3).double(), torch.arange(40) // 4)
    with torch.no_grad():
        prior.loc.normal_(0, 0.1)
        prior.raw_scale.normal_(0, 0.01)
        prior.raw_tau.normal_(0.04, 0.01)  # tau about 1: the part of the map is seen
    model.feature_prior = prior
    model.parameter_posterior = ShrinkagePosterior("feature_prior", DRAWS)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def batch():
    return small_batch(num_prompts=3)


def shifts(model, batch):
    phi = model.feature_prior.components(model.response_scaler(batch.responses))
    return model.parameter_posterior.shifts(model, phi)


def test_draws_share_what_the_map_leaves_alone(model, batch):
    """The same numbers as the whole model at each draw of the map."""
    few = ShrinkagePosterior("feature_prior", 4)
    model.parameter_posterior, many = few, model.parameter_posterior
    loc, variance = model.reward_mixture(batch, 8)
    plain = model.over_parameters(lambda: model._given_nodes(batch, model._latents(batch), 8))
    model.parameter_posterior = many
    for m, (expected_loc, expected_variance, _) in enumerate(plain):
        assert torch.allclose(loc[m], expected_loc)
        assert torch.allclose(variance[m], expected_variance)


def over_draws(moments, rows):
    """Return the parts of moments as (draws, rows)."""
    return [part.reshape(DRAWS, rows) for part in moments]


@pytest.mark.parametrize("what", ["pairs", "responses"])
def test_moments_are_those_over_draws_of_the_map(model, batch, what):
    latents = model.predictive_latents(batch)
    base = latents.features.base_dist
    loc, scale = base.loc + shifts(model, batch), base.scale.expand(DRAWS, -1, -1)
    weights = weight_moments(latents.weights)

    def drawn(index):
        return Gaussian(loc[:, index].flatten(0, 1), scale[:, index].flatten(0, 1))

    if what == "pairs":
        rows = batch.num_pairs
        first, second = drawn(batch.pair_first), drawn(batch.pair_second)
        owner = batch.pair_prompt.repeat(DRAWS)
        draws = delta_moments(weights.rows(owner), first, second, model.reward())
        found = model.pair_uncertainty(batch)
    else:
        rows = batch.num_responses
        owner = batch.response_prompt.repeat(DRAWS)
        every = drawn(torch.arange(rows))
        draws = reward_moments(weights.rows(owner), every, model.reward())
        prediction = model.predict_responses(batch)
        found = prediction.reward
        sd = prediction.score_sd
        scores = model.reward().scores(loc)
        variance = Gaussian(base.loc, base.scale).mapped_variance(model.reward().loading)
        assert_within(sd**2 - variance, scores.var(0), (2 / DRAWS) ** 0.5 * scores.var(0), 4.5)
    mean, variance, from_weights, from_features, interaction, _ = over_draws(draws, rows)
    error = mean.std(0) / DRAWS**0.5
    assert_within(mean.mean(0), found.mean, error, 4.5)
    assert_within(mean.var(0), found.epistemic, (2 / DRAWS) ** 0.5 * found.epistemic, 4.5)
    if what == "pairs":
        assert_within(variance.mean(0), found.ambiguity, variance.std(0) / DRAWS**0.5, 4.5)
        return
    error = from_weights.std(0) / DRAWS**0.5
    assert_within(from_weights.mean(0), found.from_weights, error, 4.5)
    assert torch.allclose(from_features[0], found.from_features)
    assert torch.allclose(interaction[0], found.interaction)
    assert torch.allclose(sum(found[2:]), found.variance)


def test_pairs_are_assessed_as_by_themselves(model, batch):
    chance, found = model.assess_pairs(batch)
    assert torch.equal(chance, model.predict_pairs(batch))
    assert all(map(torch.equal, found, model.pair_uncertainty(batch)))


def test_contributions_add_up_to_the_exact_reward(model, batch):
    expected = model.predict_responses(batch).reward.mean
    assert torch.allclose(contributions(model, batch).parts.sum(-1), expected)


def test_group_rewards_are_those_of_joint_draws(model, batch):
    """Each draw has its map, its node of w, and its z."""
    counts = 1.0 + torch.arange(batch.num_responses).double() % 3
    group = group_rewards(model, batch, counts)
    latents = model.predictive_latents(batch)
    base = latents.features.base_dist
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(DRAWS, *base.loc.shape, generator=generator, dtype=torch.float64)
    scores = model.reward().scores(base.loc + shifts(model, batch) + base.scale * noise)
    w = latents.weights.sample((DRAWS,))[:, batch.response_prompt]
    draws = model.reward().rewards(w, scores)
    zero = torch.zeros(DRAWS, batch.num_prompts).double()
    level = zero.index_add(1, batch.response_prompt, counts * draws)
    total = zero[0].index_add(0, batch.response_prompt, counts)
    draws = draws - (level / total)[:, batch.response_prompt]
    assert group.loc.shape == (1, NUM_NODES, batch.num_responses)
    assert_within(group.mean(), draws.mean(0), draws.std(0) / DRAWS**0.5, 4.5)
    squares = (draws - draws.mean(0)) ** 2
    error = squares.std(0) / DRAWS**0.5 + 0.02 * group.sd() ** 2  # nodes: an sd is right to 1%
    assert_within(squares.mean(0), group.sd() ** 2, error, 4.5)
    share = [(0.1, draws <= group.quantile(0.1)), (0.7, draws <= group.quantile(0.7))]
    for expected, below in [*share, (group.above(), draws > 0)]:
        miss = (below.double().mean(0) - expected).abs()
        assert miss.max() < 4.5 * 0.5 / DRAWS**0.5 + 0.01  # .01: what the nodes leave


def test_p_best_of_groups_of_unequal_size():
    loc = torch.tensor([0.0, 0.0, 1.0, 0.5, 0.5]).expand(1, 16, 5)
    scale = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]).expand(1, 16, 5)
    owner = torch.tensor([0, 1, 1, 2, 2])
    found = _p_best(loc, scale, owner, torch.Generator().manual_seed(0))
    above = torch.special.ndtr(torch.tensor(0.5**0.5)).item()
    assert found[[0, 3, 4]].tolist() == [1.0, 0.5, 0.5]  # equal ones without spread share it
    assert found[2].item() == pytest.approx(above, abs=4.5 * (above * (1 - above) / 2048) ** 0.5)
    assert found[1:3].sum().item() == pytest.approx(1.0)

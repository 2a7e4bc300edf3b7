import math
from dataclasses import replace

import pytest
import torch
from helpers.problems import covariance_of, delta_moments_of, moments_of, random_conditionals

from vrm_pyro.models.distributions import Gaussian
from vrm_pyro.models.reward import LinearReward, RewardParameters, delta_given_weights

REWARD = RewardParameters(
    torch.tensor([[1.0, 0.3], [-0.4, 0.8]]).double(),
    torch.tensor([0.5, -1.0]).double(),
    torch.tensor(1.5).double(),
)


def test_scores_and_delta_by_hand():
    z = torch.tensor([[1.0, 2.0], [0.0, -1.0]]).double()
    scores = REWARD.scores(z)
    assert torch.allclose(scores, torch.tensor([[2.1, 0.2], [0.2, -1.8]]).double())
    w = torch.tensor([0.25, 0.75]).double()
    delta = REWARD.delta(w, scores[0], scores[1])
    assert delta.item() == pytest.approx(1.5 * (0.25 * 1.9 + 0.75 * 2.0))


def test_leading_dimensions_of_draws_broadcast():
    z = torch.randn(7, 3, 2).double()
    w = torch.distributions.Dirichlet(torch.ones(2).double()).sample((7, 4))
    first, second = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 2])
    scores = REWARD.scores(z)
    delta = REWARD.delta(w, scores[:, first], scores[:, second])
    assert delta.shape == (7, 4)
    expected = 1.5 * (w[3, 2] * (scores[3, 2] - scores[3, 0])).sum()
    assert delta[3, 2].item() == pytest.approx(expected.item())


def test_identity_scores_are_the_features():
    reward = LinearReward(3, 3, identity=True)
    z = torch.randn(5, 3)
    assert torch.equal(reward().scores(z), z)
    assert "loading" not in dict(reward.named_parameters())
    with pytest.raises(ValueError, match="latent_dim to 4"):
        LinearReward(4, 3, identity=True)


def test_scale_is_learned_or_fixed():
    learned, fixed = LinearReward(3, 2, initial_scale=2.0), LinearReward(3, 2, learn_scale=False)
    assert learned().scale.item() == pytest.approx(2.0)
    assert "log_scale" in dict(learned.named_parameters())
    assert "log_scale" not in dict(fixed.named_parameters())
    assert fixed().scale == 1
    assert set(learned.state_dict()) == set(fixed.state_dict())


def test_delta_given_weights_is_the_law_of_the_program():
    heads = random_conditionals(1, 2, 3, 4)
    normal = heads.features.base_dist
    w = torch.tensor([[0.2, 0.5, 0.3]]).double()
    z = heads.features.sample((200_000,))
    scores = heads.reward.scores(z)
    draws = heads.reward.delta(w[0], scores[:, 0], scores[:, 1])
    mean, variance = delta_given_weights(
        w,
        Gaussian(normal.loc[:1], normal.scale[:1]),
        Gaussian(normal.loc[1:], normal.scale[1:]),
        heads.reward,
    )
    assert abs(draws.mean() - mean[0]) < 4.5 * draws.std() / 200_000**0.5
    assert draws.var().item() == pytest.approx(variance[0].item(), rel=5 * (2 / 200_000) ** 0.5)


def test_moments_of_certain_weights_and_features():
    """No spread anywhere: the mean is the reward, every part of the variance vanishes."""
    loc = torch.tensor([[1.0, 2.0]]).double()
    moments = moments_of(
        torch.tensor([[0.25e12, 0.75e12]]).double(), loc, torch.zeros(1, 2).double(), REWARD
    )
    assert moments.mean.item() == pytest.approx(1.5 * (0.25 * 2.1 + 0.75 * 0.2), rel=1e-6)
    assert moments.variance.item() == pytest.approx(0, abs=1e-10)


def test_one_objective_has_no_weights_to_be_unsure_of():
    reward = RewardParameters(torch.ones(1, 2), torch.zeros(1), torch.tensor(1.0))
    moments = moments_of(torch.tensor([[0.7]]), torch.randn(1, 2), torch.rand(1, 2), reward)
    assert moments.from_weights == 0
    assert abs(moments.interaction) < 1e-6
    assert torch.allclose(moments.variance, moments.from_features)


def test_equal_scores_leave_no_variance_of_weights_in_float32():
    """w'1 = 1: a common level is no uncertainty, however large, and never a negative variance."""
    reward = RewardParameters(torch.eye(4), torch.zeros(4), torch.tensor(3.0))
    alpha = torch.rand(500, 4) + 0.2
    level = 10 * torch.randn(500, 1).expand(500, 4)
    moments = moments_of(alpha, level + 1e-3 * torch.randn(500, 4), torch.rand(500, 4), reward)
    assert (moments.from_weights >= 0).all()
    assert moments.from_weights.max() < 1e-3
    covariance = covariance_of(alpha, (level, level), reward)
    assert covariance.abs().max() < 1e-3


def test_covariance_with_itself_is_the_variance_of_weights():
    heads = random_conditionals(6, 6)
    normal = heads.features.base_dist
    covariance = covariance_of(heads.weights.concentration, (normal.loc, normal.loc), heads.reward)
    moments = moments_of(heads.weights.concentration, normal.loc, normal.scale, heads.reward)
    assert torch.allclose(covariance, moments.from_weights)


def test_reward_scale_acts_as_a_unit():
    heads = random_conditionals(6, 6)
    normal = heads.features.base_dist
    arguments = heads.weights.concentration, normal.loc, normal.scale
    doubled = replace(heads.reward, scale=2 * heads.reward.scale)
    one, two = moments_of(*arguments, heads.reward), moments_of(*arguments, doubled)
    assert torch.allclose(two.mean, 2 * one.mean)
    for part_one, part_two in zip(one[1:], two[1:], strict=True):
        assert torch.allclose(part_two, 4 * part_one)


def test_intercept_cancels_in_differences():
    heads = random_conditionals(6, 12)
    normal, alpha = heads.features.base_dist, heads.weights.concentration
    locs, scales = (normal.loc[:6], normal.loc[6:]), (normal.scale[:6], normal.scale[6:])
    moved = replace(heads.reward, intercept=heads.reward.intercept + math.pi)
    one = delta_moments_of(alpha, locs, scales, heads.reward)
    two = delta_moments_of(alpha, locs, scales, moved)
    for x, y in zip(one, two, strict=True):
        assert torch.equal(x, y)

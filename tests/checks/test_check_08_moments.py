"""Check 8: predictive moments and probabilities against draws."""

from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from helpers.problems import (
    assert_within,
    covariance_of,
    delta_moments_of,
    moments_of,
    random_conditionals,
)

from vrm_pyro.models.likelihoods import (
    PREFERENCE_LIKELIHOODS,
    GaussianDelta,
    Preference,
    expect_normal,
)
from vrm_pyro.models.predictive import preference_probability

NUM_DRAWS = 1_000_000
NUM_OBJECTIVES, LATENT_DIM = 4, 5
# The two responses of one prompt, judged under one w.
PAIR = (torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))


@pytest.fixture(scope="module", params=[0, 1, 2])
def problem(request):
    """Conditionals of one prompt with two responses, and a million draws of (r_a, r_b)."""
    torch.manual_seed(100 + request.param)
    conditionals = random_conditionals(1, 2, NUM_OBJECTIVES, LATENT_DIM, seed=request.param)
    w = conditionals.weights.sample((NUM_DRAWS,))  # (S, 1, K)
    scores = conditionals.reward.scores(conditionals.features.sample((NUM_DRAWS,)))  # (S, 2, K)
    return conditionals, conditionals.reward.scale * (w * scores).sum(-1)  # (S, 2)


def rows(conditionals):
    """Return alpha, locs and scales of the two responses, one row each."""
    normal = conditionals.features.base_dist
    return conditionals.weights.concentration.expand(2, -1), normal.loc, normal.scale


def variance_error(draws):
    """Return the standard error of a sample variance."""
    centred = draws - draws.mean(0)
    return (centred**2).std(0) / len(draws) ** 0.5


def test_reward_mean_and_variance(problem):
    conditionals, draws = problem
    moments = moments_of(*rows(conditionals), conditionals.reward)
    assert_within(draws.mean(0), moments.mean, draws.std(0) / NUM_DRAWS**0.5, 4)
    assert_within(draws.var(0), moments.variance, variance_error(draws), 4)
    assert ((draws.mean(0) - moments.mean).abs() < 0.01 * draws.std(0)).all()
    assert torch.allclose(draws.var(0), moments.variance, rtol=0.01)


def test_delta_mean_and_variance(problem):
    conditionals, draws = problem
    delta = draws[:, 0] - draws[:, 1]
    alpha, loc, scale = rows(conditionals)
    moments = delta_moments_of(
        alpha[:1], (loc[:1], loc[1:]), (scale[:1], scale[1:]), conditionals.reward
    )
    assert_within(delta.mean(), moments.mean, delta.std() / NUM_DRAWS**0.5, 4)
    assert_within(delta.var(), moments.variance, variance_error(delta), 4)
    assert torch.allclose(delta.var(), moments.variance[0], rtol=0.01)


def test_reward_covariance(problem):
    """Shared w couples the rewards of one prompt; a fresh w per response would not."""
    conditionals, draws = problem
    alpha, loc, scale = rows(conditionals)
    exact = covariance_of(alpha[:1], (loc[:1], loc[1:]), conditionals.reward)[0]
    centred = draws - draws.mean(0)
    product = centred.prod(-1)
    assert_within(product.mean(), exact, product.std() / NUM_DRAWS**0.5, 4)
    assert abs(product.mean() - exact) < 0.01 * draws.std(0).prod()
    moments = moments_of(alpha, loc, scale, conditionals.reward)
    delta = delta_moments_of(
        alpha[:1], (loc[:1], loc[1:]), (scale[:1], scale[1:]), conditionals.reward
    )
    assert torch.allclose(delta.variance[0], moments.variance.sum() - 2 * exact, rtol=1e-10)


def test_parts_sum_to_the_variance_and_mean_what_they_say():
    conditionals = random_conditionals(30, 30, NUM_OBJECTIVES, LATENT_DIM, seed=9)
    alpha, normal = conditionals.weights.concentration, conditionals.features.base_dist
    moments = moments_of(alpha, normal.loc, normal.scale, conditionals.reward)
    parts = moments.from_weights + moments.from_features + moments.interaction
    assert torch.allclose(parts, moments.variance, rtol=1e-12)
    assert (torch.stack(moments[1:]) >= 0).all()
    # Known features leave the part of the weights alone, and the other way round.
    known = moments_of(alpha, normal.loc, torch.zeros_like(normal.scale), conditionals.reward)
    assert torch.allclose(known.variance, moments.from_weights, rtol=1e-12)
    sure = moments_of(1e9 * alpha, normal.loc, normal.scale, conditionals.reward)
    assert torch.allclose(sure.variance, moments.from_features, rtol=1e-6)


def test_parts_against_nested_draws(problem):
    """E_w Var(r | w) = features + interaction and Var_w E(r | w) = weights."""
    conditionals, _ = problem
    moments = moments_of(*rows(conditionals), conditionals.reward)
    normal = conditionals.features.base_dist
    w = conditionals.weights.sample((NUM_DRAWS,))
    mean = conditionals.reward.scale * (w * conditionals.reward.scores(normal.loc)).sum(-1)
    projected = w @ conditionals.reward.loading
    variance = conditionals.reward.scale**2 * (projected**2 * normal.scale**2).sum(-1)
    assert_within(mean.var(0), moments.from_weights, variance_error(mean), 4)
    assert_within(
        variance.mean(0),
        moments.from_features + moments.interaction,
        variance.std(0) / NUM_DRAWS**0.5,
        4,
    )


@pytest.mark.parametrize("name", sorted(PREFERENCE_LIKELIHOODS))
def test_integrated_probability_against_plain_draws(problem, name):
    conditionals, draws = problem
    likelihood = PREFERENCE_LIKELIHOODS[name]()
    probability = likelihood.probability(draws[:, 0] - draws[:, 1])
    error = probability.std() / NUM_DRAWS**0.5

    def integrated(num_draws):
        return preference_probability(
            conditionals.weights,
            conditionals.features,
            PAIR,
            conditionals.reward,
            likelihood,
            num_draws,
        )[0]

    assert_within(integrated(4096), probability.mean(), error, 4)
    # What predictions use costs 64 points: the quasi-random error is below a percent point.
    assert abs(integrated(64) - probability.mean()) < 0.005


def test_probit_form_is_close_to_the_exact_expectation():
    mean = torch.linspace(-6, 6, 121).double()
    worst = 0.0
    for variance in torch.linspace(0, 64, 129).double():
        exact = expect_normal(torch.sigmoid, mean, variance.expand(121), num_nodes=256)
        probit = torch.sigmoid(mean / (1 + torch.pi * variance / 8).sqrt())
        worst = max(worst, (exact - probit).abs().max().item())
    assert 0.01 < worst < 0.0135


@pytest.mark.parametrize("name", sorted(PREFERENCE_LIKELIHOODS))
def test_probabilities_of_all_outcomes_sum_to_one(name):
    likelihood = PREFERENCE_LIKELIHOODS[name]()
    delta = torch.linspace(-40, 40, 801).double()
    for law in (
        Preference(delta, likelihood),
        GaussianDelta(delta, torch.linspace(0, 8, 801).double(), likelihood),
    ):
        # Ties and grades included.
        chances = {c: law.log_prob(torch.full_like(delta, c)).exp() for c in likelihood.outcomes}
        assert (sum(chances.values()) - 1).abs().max() < 1e-12
        expected = sum(c * chance for c, chance in chances.items())
        assert torch.allclose(law.mean, expected, rtol=1e-12, atol=1e-15)
    conditionals = random_conditionals(1, 2, seed=4)
    swapped = (PAIR[0], PAIR[2], PAIR[1])
    both = [
        preference_probability(
            conditionals.weights, conditionals.features, pair, conditionals.reward, likelihood
        )
        for pair in (PAIR, swapped)
    ]
    assert abs(both[0] + both[1] - 1) < 1e-12


def test_plug_in_probability_is_overconfident():
    """Never sigmoid(E Delta): it is further from one half than the integrated probability."""
    conditionals = random_conditionals(50, 100, NUM_OBJECTIVES, LATENT_DIM, seed=3)
    prompt = torch.arange(50)
    pairs = (prompt, 2 * prompt, 2 * prompt + 1)
    likelihood = PREFERENCE_LIKELIHOODS["BradleyTerry"]()
    integrated = preference_probability(
        conditionals.weights, conditionals.features, pairs, conditionals.reward, likelihood
    )
    normal = conditionals.features.base_dist
    mean = delta_moments_of(
        conditionals.weights.concentration,
        (normal.loc[pairs[1]], normal.loc[pairs[2]]),
        (normal.scale[pairs[1]], normal.scale[pairs[2]]),
        conditionals.reward,
    ).mean
    plug_in = torch.sigmoid(mean)
    assert ((plug_in - 0.5).abs() > (integrated - 0.5).abs()).double().mean() > 0.9
    # Without any spread the two are the same number.
    sure = replace(
        conditionals,
        weights=dist.Dirichlet(1e10 * conditionals.weights.mean),
        features=dist.Normal(normal.loc, 1e-9 * torch.ones_like(normal.loc)).to_event(1),
    )
    exact = preference_probability(
        sure.weights, sure.features, pairs, conditionals.reward, likelihood
    )
    assert torch.allclose(exact, plug_in, atol=1e-4)

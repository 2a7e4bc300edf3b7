from dataclasses import replace

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from helpers.problems import random_conditionals
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import beta, kstest, norm

from vrm_pyro.diagnostics.metrics.pair_metrics import PROBABILITY_FLOOR as NUMPY_FLOOR
from vrm_pyro.diagnostics.metrics.pair_metrics import log_loss_values as numpy_log_loss
from vrm_pyro.models.distributions import as_gaussian, as_logistic_normal, weight_nodes
from vrm_pyro.models.likelihoods import PREFERENCE_LIKELIHOODS, BradleyTerry
from vrm_pyro.models.predictive import (
    NUM_DRAWS,
    PROBABILITY_FLOOR,
    ResponsePrediction,
    log_loss_values,
    mixed_predictions,
    preference_probability,
    rating_moments,
)
from vrm_pyro.models.ratings.bernoulli import BernoulliValues
from vrm_pyro.models.reward import Moments, delta_given_weights


def dirichlet_nodes(concentration, num_draws=NUM_DRAWS):
    return weight_nodes(dist.Dirichlet(concentration), num_draws)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 30.0])
def test_nodes_have_the_moments_of_the_dirichlet(alpha):
    concentration = alpha * torch.tensor([[1.0, 2.0, 0.5], [1.0, 1.0, 1.0]]).double()
    w = dirichlet_nodes(concentration, 4096)
    law = torch.distributions.Dirichlet(concentration)
    assert w.shape == (4096, 2, 3)
    assert torch.allclose(w.sum(-1), torch.ones(4096, 2).double())
    assert torch.allclose(w.mean(0), law.mean, atol=2e-3)
    assert torch.allclose(w.var(0), law.variance, rtol=0.05)


def test_nodes_have_beta_marginals():
    concentration = torch.tensor([[0.7, 2.0, 1.3]]).double()
    w = dirichlet_nodes(concentration, 4096)[:, 0]
    for k, a in enumerate((0.7, 2.0, 1.3)):
        assert kstest(w[:, k].numpy(), beta(a, 4.0 - a).cdf).statistic < 0.01


def test_nodes_depend_on_their_own_concentration_only():
    """A score must not change with batch mates, order, call or seed."""
    concentration = torch.rand(6, 4) + 0.3
    together = dirichlet_nodes(concentration)
    assert together.shape == (NUM_DRAWS, 6, 4)
    torch.manual_seed(99)
    assert torch.equal(dirichlet_nodes(concentration), together)
    assert torch.equal(dirichlet_nodes(concentration[2:3])[:, 0], together[:, 2])
    assert torch.equal(dirichlet_nodes(concentration.flip(0)).flip(1), together)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [0.1, 1e4])
def test_nodes_are_finite_at_the_limits(alpha, dtype):
    w = dirichlet_nodes(torch.full((1, 8), alpha, dtype=dtype))
    assert w.dtype == dtype
    assert w.isfinite().all()
    assert (w >= 0).all()
    assert torch.allclose(w.sum(-1), torch.ones(NUM_DRAWS, 1, dtype=dtype), atol=1e-5)


@pytest.mark.parametrize("name", ["BradleyTerry", "Davidson", "Graded", "Lapse", "Probit"])
@pytest.mark.parametrize("family", ["dirichlet", "logistic_normal"])
def test_probability_is_right_to_two_in_a_thousand(family, name):
    """Against 16,384 nodes of w and a grid for z: scores up to about 3 apart, w widely spread."""
    heads = random_conditionals(12, 24, seed=4)
    weights = dist.Dirichlet(1.0 * heads.weights.concentration.clamp(min=0.4))
    weights = weights if family == "dirichlet" else as_logistic_normal(weights)
    reward = replace(heads.reward, loading=2.0 * torch.eye(4).double())
    likelihood = PREFERENCE_LIKELIHOODS[name]().build()
    prompt = torch.arange(12)
    pairs = prompt, 2 * prompt, 2 * prompt + 1
    with torch.no_grad():
        found = preference_probability(weights, heads.features, pairs, reward, likelihood)
        gaussian = as_gaussian(heads.features)
        both = gaussian.rows(pairs[1]), gaussian.rows(pairs[2])
        mean, variance = delta_given_weights(weight_nodes(weights, 16_384), *both, reward)
        z = torch.linspace(-5, 5, 31, dtype=torch.float64)
        mass = torch.softmax(-(z**2) / 2, 0)
        exact = sum(
            part * likelihood.probability(mean + variance.sqrt() * point).mean(0)
            for point, part in zip(z, mass, strict=True)
        )
    assert (found - exact).abs().max() < 0.002
    assert (found - 0.5).abs().max() > 0.2


def test_probability_without_spread_is_the_sigmoid():
    heads = random_conditionals(1, 2)
    loc = heads.features.base_dist.loc
    features = dist.Normal(loc, torch.full_like(loc, 1e-12)).to_event(1)
    weights = dist.Dirichlet(1e12 * heads.weights.mean)
    pair = (torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))
    probability = preference_probability(weights, features, pair, heads.reward, BradleyTerry())
    scores = heads.reward.scores(loc)
    delta = heads.reward.delta(heads.weights.mean[0], scores[0], scores[1])
    assert probability.item() == pytest.approx(torch.sigmoid(delta).item(), abs=1e-5)


def test_equal_answers_are_a_tie():
    heads = random_conditionals(1, 1)
    pair = (torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    probability = preference_probability(
        heads.weights, heads.features, pair, heads.reward, BradleyTerry()
    )
    assert probability.item() == pytest.approx(0.5, abs=1e-12)


def test_more_spread_of_features_moves_towards_one_half():
    heads = random_conditionals(20, 40)
    normal = heads.features.base_dist
    prompt = torch.arange(20)
    pairs = (prompt, 2 * prompt, 2 * prompt + 1)
    sure, unsure = (
        preference_probability(
            heads.weights,
            dist.Normal(normal.loc, factor * normal.scale).to_event(1),
            pairs,
            heads.reward,
            BradleyTerry(),
        )
        for factor in (0.1, 3.0)
    )
    assert (unsure - 0.5).abs().mean() < 0.8 * (sure - 0.5).abs().mean()


@pytest.mark.parametrize(("loc", "scale"), [(0.4, 1.5), (-1.0, 0.5)])
def test_expected_rating_is_averaged_over_the_score(loc, scale):
    """E sigmoid(s + o) and its sd by adaptive quadrature; at the mean score it is another."""
    ratings = BernoulliValues(torch.tensor([0.3]).double(), 1.0)
    mean, sd = rating_moments(
        ratings, torch.tensor([[loc]]).double(), torch.tensor([[scale]]).double()
    )

    def expect(function):
        def weighted(s):
            return function(expit(s + 0.3)) * norm.pdf(s, loc, scale)

        return quad(weighted, loc - 12 * scale, loc + 12 * scale, epsabs=1e-12)[0]

    exact = expect(lambda y: y)
    assert mean.item() == pytest.approx(exact, abs=1e-6)
    assert sd.item() == pytest.approx(expect(lambda y: (y - exact) ** 2) ** 0.5, abs=1e-6)
    assert abs(exact - expit(loc + 0.3)) > 1e-3


def test_scores_over_parameters_have_the_total_variance():
    """Two values of the parameters: mean of the variances plus variance of the means."""
    zero = torch.zeros(1).double()
    draws = [
        ResponsePrediction(
            Moments(*[zero] * 6),
            torch.full((1, 1), 1.0).double(),
            torch.full((1, 1), mean).double(),
            torch.full((1, 1), sd).double(),
        )
        for mean, sd in ((1.0, 0.3), (3.0, 0.4))
    ]
    found = mixed_predictions(draws)
    assert found.score_mean.item() == pytest.approx(2.0)
    assert found.score_sd.item() ** 2 == pytest.approx((0.09 + 0.16) / 2 + 2.0)


def test_log_loss_agrees_with_its_numpy_twin():
    p = torch.linspace(0, 1, 501, dtype=torch.float64)
    for c in (torch.zeros_like(p), torch.full_like(p, 0.3), torch.ones_like(p)):
        wanted = numpy_log_loss(p.numpy(), c.numpy())
        np.testing.assert_allclose(log_loss_values(p, c).numpy(), wanted, rtol=0, atol=1e-12)
        # float32 keeps the same distance from 0 and 1.
        low = log_loss_values(p.float(), c.float()).double()
        np.testing.assert_allclose(low[[0, -1]].numpy(), wanted[[0, -1]], rtol=1e-6)
    assert PROBABILITY_FLOOR == NUMPY_FLOOR

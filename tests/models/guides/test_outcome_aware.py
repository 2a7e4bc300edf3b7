"""The guide is an update of the prior: nothing observed, nothing moved."""

from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from helpers.problems import HIDDEN_SIZE, labelled_prompt, random_conditionals, small_batch

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conjugate import features_given_ratings
from vrm_pyro.models.distributions import divergence
from vrm_pyro.models.guides import FullCovarianceGuide, OutcomeAwareGuide
from vrm_pyro.models.networks import CONCENTRATION_CAP, CONCENTRATION_FLOOR


@pytest.fixture
def guide():
    return OutcomeAwareGuide().build(HIDDEN_SIZE, 4, 4).double()


@pytest.fixture
def batch():
    return small_batch(num_objectives=4)


@pytest.fixture
def conditionals(batch):
    return random_conditionals(batch.num_prompts, batch.num_responses)


def without_pairs(batch):
    none = torch.zeros(0, dtype=torch.long)
    return FeatureBatch(
        **{
            **batch.as_dict(),
            "pair_first": none,
            "pair_second": none,
            "preference": torch.zeros(0).double(),
            "pair_weight": torch.zeros(0).double(),
        }
    )


def without_ratings(batch):
    return replace(batch, rating_mask=torch.zeros_like(batch.rating_mask))


def test_without_outcomes_it_is_the_prior(guide, batch, conditionals):
    q_weights, q_features = guide.posterior(without_ratings(without_pairs(batch)), conditionals)
    assert torch.equal(q_weights.concentration, conditionals.weights.concentration)
    assert torch.allclose(q_features.mean, conditionals.features.mean)
    assert torch.allclose(q_features.variance, conditionals.features.variance)


def test_without_outcomes_a_correlated_prior_is_kept_as_far_as_the_family_goes(
    batch, conditionals
):
    """Diagonal: means and precisions, at the price of a divergence. Full: the prior itself."""
    factor = 0.4 * torch.randn(batch.num_responses, 4, 4).double().tril(-1) + torch.eye(4).double()
    prior = dist.MultivariateNormal(conditionals.features.mean, scale_tril=factor)
    heads, data = replace(conditionals, features=prior), without_ratings(without_pairs(batch))
    diagonal, full = (
        kind().build(HIDDEN_SIZE, 4, 4).double().features(data, heads)
        for kind in (OutcomeAwareGuide, FullCovarianceGuide)
    )
    precision = prior.precision_matrix.diagonal(dim1=-2, dim2=-1)
    assert torch.allclose(diagonal.mean, prior.mean)
    assert torch.allclose(diagonal.variance, precision.reciprocal())
    assert (divergence(diagonal, prior) > 0.01).all()
    assert divergence(full, prior).abs().max() < 1e-12


def test_pairs_of_weight_zero_say_nothing(guide, batch, conditionals):
    silent = replace(without_ratings(batch), pair_weight=torch.zeros_like(batch.pair_weight))
    q_weights, q_features = guide.posterior(silent, conditionals)
    assert torch.allclose(q_weights.concentration, conditionals.weights.concentration)
    assert torch.allclose(q_features.mean, conditionals.features.mean)
    assert torch.allclose(q_features.variance, conditionals.features.variance)


def test_ratings_alone_give_the_conjugate_posterior(guide, batch, conditionals):
    """Same mean; of the full covariance the diagonal of the precision, the best in KL(q || p)."""
    data = without_pairs(batch)
    q_features = guide.features(data, conditionals)
    loc, covariance = features_given_ratings(data, conditionals)
    assert torch.allclose(q_features.mean, loc)
    precision = torch.linalg.inv(covariance)
    assert torch.allclose(
        q_features.variance.reciprocal(), precision.diagonal(dim1=-2, dim2=-1), rtol=1e-8
    )

    def divergence(scale):
        full = torch.distributions.MultivariateNormal(loc, covariance)
        q = torch.distributions.MultivariateNormal(loc, torch.diag_embed(scale**2))
        return torch.distributions.kl_divergence(q, full).sum()

    scale = q_features.variance.sqrt()
    assert divergence(scale) < min(divergence(0.99 * scale), divergence(1.01 * scale))


def test_ratings_count_as_often_as_their_power_says(guide, batch, conditionals):
    """Row by row from spec 2.7: lambda A' diag(m / tau^2) A joins the precision of the prior."""
    data, power = without_pairs(batch), 0.3
    ratings = replace(conditionals.ratings, power=power)
    q_features = guide.features(data, replace(conditionals, ratings=ratings))
    reward, prior = conditionals.reward, conditionals.features.base_dist
    for j in range(data.num_responses):
        counts = power * data.rating_mask[j] / ratings.scale**2
        precision = torch.diag(prior.scale[j] ** -2)
        precision = precision + reward.loading.T @ (counts.unsqueeze(-1) * reward.loading)
        gap = data.ratings[j] - ratings.offset - reward.scores(prior.loc[j])
        moved = torch.linalg.solve(precision, reward.loading.T @ (counts * gap))
        assert torch.allclose(q_features.mean[j], prior.loc[j] + moved)
        assert torch.allclose(q_features.variance[j], precision.diagonal().reciprocal())


def test_values_of_missing_ratings_never_matter(guide, batch, conditionals):
    other = replace(batch, ratings=torch.where(batch.rating_mask, batch.ratings, 1e6))
    before, after = guide.posterior(batch, conditionals), guide.posterior(other, conditionals)
    for x, y in zip(before, after, strict=True):
        assert torch.equal(x.mean, y.mean)


def test_preferred_answers_gain_reward(guide, batch, conditionals):
    """q(r_preferred - r_other) lies above p's for hard labels, with fresh site networks."""
    data = replace(
        without_ratings(batch),
        preference=batch.preference.round(),
        pair_weight=torch.ones_like(batch.pair_weight),
    )
    # One pair a prompt, so that no other label pulls.
    first_pairs = torch.tensor([(data.pair_prompt == p).nonzero()[0].item() for p in range(5)])
    data = replace(
        data,
        pair_first=data.pair_first[first_pairs],
        pair_second=data.pair_second[first_pairs],
        preference=data.preference[first_pairs],
        pair_weight=data.pair_weight[first_pairs],
    )
    q_weights, q_features = guide.posterior(data, conditionals)

    def margin(weights, features):
        scores = conditionals.reward.scores(features.mean)
        delta = conditionals.reward.delta(
            weights.mean[data.pair_prompt], scores[data.pair_first], scores[data.pair_second]
        )
        return (2 * data.preference - 1) * delta

    same_weights = margin(conditionals.weights, q_features) - margin(
        conditionals.weights, conditionals.features
    )
    assert (same_weights > 0).all()
    assert (q_features.variance <= conditionals.features.variance + 1e-12).all()


def mean_differences(weights, conditionals, batch):
    """Return E[Delta] of every pair under a distribution of w, with z at its prior mean."""
    scores = conditionals.reward.scores(conditionals.features.mean)
    return conditionals.reward.delta(
        weights.mean[batch.pair_prompt], scores[batch.pair_first], scores[batch.pair_second]
    )


def test_an_undecided_label_says_that_answers_are_alike(guide):
    """c = 1/2 moves w to where Delta is smaller; z gets curvature but no direction."""
    batch = small_batch(num_objectives=4, single_use=True)
    conditionals = random_conditionals(batch.num_prompts, batch.num_responses)
    data = replace(
        without_ratings(batch),
        preference=torch.full_like(batch.preference, 0.5),
        pair_weight=torch.ones_like(batch.pair_weight),
    )
    q_weights, q_features = guide.posterior(data, conditionals)
    before, after = (
        mean_differences(w, conditionals, data) for w in (conditionals.weights, q_weights)
    )

    def by_prompt(delta):
        return torch.zeros(5).double().index_add(0, data.pair_prompt, delta**2)

    assert (by_prompt(after) < by_prompt(before)).all()
    # Responses in one pair only: the curvature acts around the prior mean.
    assert torch.allclose(q_features.mean, conditionals.features.mean)
    assert (q_features.variance <= conditionals.features.variance + 1e-12).all()
    assert (q_features.variance < conditionals.features.variance - 1e-6).any()


def test_data_only_add_concentration_and_the_limits_hold(guide, batch, conditionals):
    q_weights = guide.weights(batch, conditionals)
    gained = q_weights.concentration.sum(-1) - conditionals.weights.concentration.sum(-1)
    assert (gained > 0).all()
    huge = replace(
        conditionals, weights=dist.Dirichlet(torch.full((5, 4), 1e4, dtype=torch.float64))
    )
    assert guide.weights(batch, huge).concentration.max() == CONCENTRATION_CAP
    tiny = replace(
        conditionals, weights=dist.Dirichlet(torch.full((5, 4), 0.1, dtype=torch.float64))
    )
    loud = replace(batch, pair_weight=1e4 * batch.pair_weight)
    assert guide.weights(loud, tiny).concentration.min() == CONCENTRATION_FLOOR


def test_more_weight_means_more_update(guide, batch, conditionals):
    data = without_ratings(batch)
    # One pair a prompt: several with opposite labels pull against each other.
    data = replace(
        data,
        pair_weight=torch.tensor(
            [float((data.pair_prompt[:n] == p).sum() == 0) for n, p in enumerate(data.pair_prompt)]
        ).double(),
    )
    light = guide.posterior(replace(data, pair_weight=0.2 * data.pair_weight), conditionals)
    heavy = guide.posterior(data, conditionals)

    def moved(weights):
        return (weights.mean - conditionals.weights.mean).abs().sum(-1)

    assert (moved(light[0]) < moved(heavy[0])).all()
    assert (light[0].concentration.sum(-1) < heavy[0].concentration.sum(-1)).all()
    for _, q_features in (light, heavy):
        assert (q_features.variance <= conditionals.features.variance + 1e-12).all()


def test_swapped_pairs_give_the_same_posterior(guide, batch, conditionals):
    before, after = (
        guide.posterior(batch, conditionals),
        guide.posterior(batch.swap_pairs(), conditionals),
    )
    for x, y in zip(before, after, strict=True):
        assert torch.allclose(x.mean, y.mean, rtol=1e-10)
        assert torch.allclose(x.variance, y.variance, rtol=1e-10)
    wrong = replace(batch.swap_pairs(), preference=batch.preference)
    assert not torch.allclose(before[0].mean, guide.weights(wrong, conditionals).mean, rtol=1e-3)


def test_renamed_objectives_give_the_renamed_posterior(guide, batch, conditionals):
    order = torch.tensor([2, 0, 3, 1])
    reward, ratings = conditionals.reward, conditionals.ratings
    renamed = replace(
        conditionals,
        weights=dist.Dirichlet(conditionals.weights.concentration[:, order]),
        reward=replace(reward, loading=reward.loading[order], intercept=reward.intercept[order]),
        ratings=replace(ratings, offset=ratings.offset[order], scale=ratings.scale[order]),
    )
    data = replace(batch, ratings=batch.ratings[:, order], rating_mask=batch.rating_mask[:, order])
    before, after = guide.posterior(batch, conditionals), guide.posterior(data, renamed)
    assert torch.allclose(before[0].concentration[:, order], after[0].concentration, rtol=1e-9)
    assert torch.allclose(before[1].mean, after[1].mean, rtol=1e-9)
    assert torch.allclose(before[1].variance, after[1].variance, rtol=1e-9)


def test_axes_of_the_features_do_not_reach_the_weights(guide, batch, conditionals):
    """z -> R z, A -> A R' with isotropic priors is the same model of w (spec 2.8.4)."""
    loc = conditionals.features.mean
    rotation = torch.linalg.qr(torch.randn(4, 4).double()).Q

    def weights(turn):
        features = dist.Normal(loc @ turn.T, torch.full_like(loc, 0.7)).to_event(1)
        reward = replace(conditionals.reward, loading=conditionals.reward.loading @ turn.T)
        return guide.weights(batch, replace(conditionals, features=features, reward=reward))

    before, after = weights(torch.eye(4).double()), weights(rotation)
    assert torch.allclose(before.concentration, after.concentration, rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_many_pairs_of_a_prompt_give_nearly_the_exact_posterior_of_weights(guide, seed):
    """Scores known, 40 labels: E[w] and sd against importance draws from the prior."""
    alpha = torch.tensor([[1.5, 1.0, 2.0, 1.0]]).double()
    data, conditionals, difference = labelled_prompt(seed=seed)
    conditionals = replace(conditionals, weights=dist.Dirichlet(alpha))
    w = torch.distributions.Dirichlet(alpha[0]).sample((100_000,))
    delta = w @ difference.T
    log_lik = torch.nn.functional.logsigmoid((2 * data.preference - 1) * delta).sum(-1)
    mass = torch.softmax(log_lik, 0).unsqueeze(-1)
    mean = (mass * w).sum(0)
    deviation = ((mass * (w - mean) ** 2).sum(0)).sqrt()
    q_weights = guide.weights(data, conditionals)
    assert ((q_weights.mean[0] - mean).abs() < 0.5 * deviation).all()
    ratio = q_weights.variance[0].sqrt() / deviation
    assert ((ratio > 0.6) & (ratio < 1.6)).all(), ratio
    # The labels say more than the prior does.
    assert ((conditionals.weights.mean[0] - mean).abs() > 2 * deviation).any()

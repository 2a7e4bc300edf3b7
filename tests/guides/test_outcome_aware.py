"""The guide is an update of the prior: nothing observed, nothing moved."""

from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from problems import HIDDEN_SIZE, random_heads, small_batch

from vrm_pyro.batch import FeatureBatch
from vrm_pyro.conjugate import features_given_ratings
from vrm_pyro.guides import OutcomeAwareGuide


@pytest.fixture
def guide():
    return OutcomeAwareGuide().build(HIDDEN_SIZE, 4, 4).double()


@pytest.fixture
def batch():
    return small_batch(num_objectives=4)


@pytest.fixture
def heads(batch):
    return random_heads(batch.num_prompts, batch.num_responses)


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


def test_without_outcomes_it_is_the_prior(guide, batch, heads):
    q_weights, q_features = guide.posterior(without_ratings(without_pairs(batch)), heads)
    assert torch.equal(q_weights.concentration, heads.weights.concentration)
    assert torch.allclose(q_features.mean, heads.features.mean)
    assert torch.allclose(q_features.variance, heads.features.variance)


def test_pairs_of_weight_zero_say_nothing(guide, batch, heads):
    silent = replace(without_ratings(batch), pair_weight=torch.zeros_like(batch.pair_weight))
    q_weights, q_features = guide.posterior(silent, heads)
    assert torch.allclose(q_weights.concentration, heads.weights.concentration)
    assert torch.allclose(q_features.mean, heads.features.mean)
    assert torch.allclose(q_features.variance, heads.features.variance)


def test_ratings_alone_give_the_conjugate_posterior(guide, batch, heads):
    """Same mean; of the full covariance the diagonal of the precision, the best in KL(q || p)."""
    data = without_pairs(batch)
    q_features = guide.features(data, heads)
    loc, covariance = features_given_ratings(data, heads)
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


def test_values_of_missing_ratings_never_matter(guide, batch, heads):
    other = replace(batch, ratings=torch.where(batch.rating_mask, batch.ratings, 1e6))
    before, after = guide.posterior(batch, heads), guide.posterior(other, heads)
    for x, y in zip(before, after, strict=True):
        assert torch.equal(x.mean, y.mean)


def test_preferred_answers_gain_reward(guide, batch, heads):
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
    q_weights, q_features = guide.posterior(data, heads)

    def margin(weights, features):
        scores = heads.reward.scores(features.mean)
        delta = heads.reward.delta(
            weights.mean[data.pair_prompt], scores[data.pair_first], scores[data.pair_second]
        )
        return (2 * data.preference - 1) * delta

    same_weights = margin(heads.weights, q_features) - margin(heads.weights, heads.features)
    assert (same_weights > 0).all()
    assert (q_features.variance <= heads.features.variance + 1e-12).all()


def test_an_undecided_label_moves_no_mean(guide, batch, heads):
    """c = 1/2 carries curvature (rewards are alike) but no direction."""
    data = replace(without_ratings(batch), preference=torch.full_like(batch.preference, 0.5))
    q_weights, q_features = guide.posterior(data, heads)
    assert torch.allclose(q_weights.concentration, heads.weights.concentration)
    # Responses in one pair only: the curvature acts around the prior mean.
    assert torch.allclose(q_features.mean, heads.features.mean)
    assert (q_features.variance <= heads.features.variance + 1e-12).all()
    assert (q_features.variance < heads.features.variance - 1e-6).any()


def test_concentrations_only_grow_and_stay_below_the_cap(guide, batch, heads):
    q_weights = guide.weights(batch, heads)
    assert (q_weights.concentration >= heads.weights.concentration).all()
    assert (q_weights.concentration > heads.weights.concentration).any()
    huge = replace(heads, weights=dist.Dirichlet(torch.full((5, 4), 1e4, dtype=torch.float64)))
    assert guide.weights(batch, huge).concentration.max() == 1e4


def test_more_weight_means_more_update(guide, batch, heads):
    data = without_ratings(batch)
    light = guide.posterior(replace(data, pair_weight=0.2 * data.pair_weight), heads)
    heavy = guide.posterior(data, heads)
    gain = heavy[0].concentration - heads.weights.concentration
    assert torch.allclose(
        light[0].concentration - heads.weights.concentration, 0.2 * gain, atol=1e-12
    )
    assert (light[1].variance >= heavy[1].variance - 1e-12).all()

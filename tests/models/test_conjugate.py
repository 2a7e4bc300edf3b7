import math
from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from helpers import golden
from helpers.problems import random_conditionals, small_batch
from torch.distributions import MultivariateNormal

from vrm_pyro.models.conjugate import features_given_ratings, rating_evidence, rating_update
from vrm_pyro.models.distributions import Gaussian
from vrm_pyro.models.likelihoods import GaussianDelta, root
from vrm_pyro.models.reward import delta_given_weights


@pytest.fixture
def batch():
    return small_batch(num_objectives=4)


@pytest.fixture
def conditionals(batch):
    return random_conditionals(batch.num_prompts, batch.num_responses, 4, 3)


def test_posterior_given_ratings_by_conditioning_a_joint_normal(batch, conditionals):
    """The textbook formula through the covariance, not through precisions."""
    loc, covariance = features_given_ratings(batch, conditionals)
    normal, loading = conditionals.features.base_dist, conditionals.reward.loading
    for row in range(batch.num_responses):
        seen = batch.rating_mask[row]
        a, prior = loading[seen], torch.diag(normal.scale[row] ** 2)
        noise = torch.diag(conditionals.ratings.scale[seen] ** 2)
        gain = prior @ a.T @ torch.linalg.inv(a @ prior @ a.T + noise)
        expected = (
            conditionals.reward.scores(normal.loc[row])[seen] + conditionals.ratings.offset[seen]
        )
        mean = normal.loc[row] + gain @ (batch.ratings[row, seen] - expected)
        assert torch.allclose(loc[row], mean, atol=1e-10)
        assert torch.allclose(covariance[row], prior - gain @ a @ prior, atol=1e-10)


def test_missing_ratings_never_matter(batch, conditionals):
    other = replace(batch, ratings=torch.where(batch.rating_mask, batch.ratings, -1e6))
    for function in (rating_update, features_given_ratings):
        for x, y in zip(function(batch, conditionals), function(other, conditionals), strict=True):
            assert torch.equal(x, y)
    assert torch.equal(rating_evidence(batch, conditionals), rating_evidence(other, conditionals))


def test_without_ratings_the_prior_stays(batch, conditionals):
    normal = conditionals.features.base_dist
    unrated = replace(batch, rating_mask=torch.zeros_like(batch.rating_mask))
    for case, law in ((unrated, conditionals), (batch, replace(conditionals, ratings=None))):
        loc, covariance = features_given_ratings(case, law)
        assert torch.allclose(loc, normal.loc)
        assert torch.allclose(covariance, torch.diag_embed(normal.scale**2))
    assert torch.allclose(
        rating_evidence(unrated, conditionals),
        torch.zeros(batch.num_responses).double(),
        atol=1e-12,
    )


def test_evidence_is_the_dense_normal_of_the_observed(batch, conditionals):
    evidence = rating_evidence(batch, conditionals)
    normal, loading = conditionals.features.base_dist, conditionals.reward.loading
    for row in range(batch.num_responses):
        seen = batch.rating_mask[row]
        if not seen.any():
            assert abs(evidence[row]) < 1e-12
            continue
        a = loading[seen]
        covariance = a @ torch.diag(normal.scale[row] ** 2) @ a.T
        covariance = covariance + torch.diag(conditionals.ratings.scale[seen] ** 2)
        loc = conditionals.reward.scores(normal.loc[row])[seen] + conditionals.ratings.offset[seen]
        expected = MultivariateNormal(loc, covariance).log_prob(batch.ratings[row, seen])
        assert evidence[row].item() == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.parametrize("power", [0.3, 1.0, 2.0])
def test_tempered_evidence_by_quadrature(power):
    """log of the integral of p(z) p(y | z)^lambda; tau appears in it beyond tau^2 / lambda."""
    conditionals, batch = golden.conditionals(power=power), golden.batch(True)
    normal = conditionals.features.base_dist
    axis = torch.linspace(-8, 8, 401, dtype=torch.float64)
    z = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    cell = math.log((axis[1] - axis[0]).item() ** 2)
    for row in range(2):
        prior = dist.Normal(normal.loc[row], normal.scale[row]).log_prob(z).sum(-1)
        rating = dist.Normal(conditionals.reward.scores(z), conditionals.ratings.scale).log_prob(
            batch.ratings[row]
        )
        value = torch.logsumexp((prior + power * rating.sum(-1)).flatten(), 0) + cell
        assert rating_evidence(batch, conditionals)[row].item() == pytest.approx(
            value.item(), abs=1e-9
        )


def test_tempered_joint_evidence_of_the_golden_problem():
    """At lambda = .3 it is -2.303; a scaled log_prob of the marginal would give -1.908."""
    conditionals, batch = golden.conditionals(power=0.3), golden.batch(True)
    nodes, log_mass = golden.jacobi_nodes(conditionals.weights.concentration)
    loc, covariance = features_given_ratings(batch, conditionals)
    direction = conditionals.reward.scale * nodes[:, 0] @ conditionals.reward.loading
    mean = direction @ (loc[0] - loc[1])
    variance = torch.einsum("sd,de,se->s", direction, covariance.sum(0), direction)
    law = GaussianDelta(mean, root(variance), conditionals.likelihood)
    preference = (log_mass[:, 0] + law.log_prob(torch.ones(64).double())).logsumexp(0)
    assert (rating_evidence(batch, conditionals).sum() + preference).item() == pytest.approx(
        -2.303, abs=5e-4
    )
    # Without ratings the same two steps give the plain evidence.
    normal = conditionals.features.base_dist
    plain = delta_given_weights(
        nodes, Gaussian(normal.loc[:1], normal.scale[:1]),
        Gaussian(normal.loc[1:], normal.scale[1:]),
        conditionals.reward,
    )  # fmt: skip
    law = GaussianDelta(plain[0][:, 0], root(plain[1][:, 0]), conditionals.likelihood)
    evidence = (log_mass[:, 0] + law.log_prob(torch.ones(64).double())).logsumexp(0)
    assert evidence.item() == pytest.approx(golden.EVIDENCE, abs=1e-7)

"""The golden problem against a second method: its numbers, before anything relies on them."""

import math

import pytest
import torch
from helpers import golden
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import beta, norm

from vrm_pyro.models.conjugate import features_given_ratings, rating_evidence
from vrm_pyro.models.likelihoods import GaussianDelta


def label_probability(weights, ratings):
    """Return p(c = 1 | w, ratings) for w of shape (S, 2): Delta is Normal given w."""
    conditionals, batch = golden.conditionals(), golden.batch(ratings)
    loc, covariance = features_given_ratings(batch, conditionals)
    if not ratings:
        loc, covariance = (
            conditionals.features.base_dist.loc,
            torch.eye(2).double().expand(2, 2, 2),
        )
    direction = conditionals.reward.scale * weights @ conditionals.reward.loading
    mean = direction @ (loc[0] - loc[1])
    variance = torch.einsum("sd,de,se->s", direction, covariance.sum(0), direction)
    return GaussianDelta(mean, variance.sqrt(), conditionals.likelihood)


@pytest.mark.parametrize("ratings", [False, True])
def test_evidence_and_moments_by_gauss_jacobi(ratings):
    nodes, log_mass = golden.jacobi_nodes(golden.conditionals().weights.concentration)
    law = label_probability(nodes[:, 0], ratings)
    joint = log_mass[:, 0] + law.log_prob(torch.ones(64).double())
    evidence = joint.logsumexp(0)
    expected = golden.EVIDENCE_JOINT - golden.EVIDENCE_RATINGS if ratings else golden.EVIDENCE
    assert evidence.item() == pytest.approx(expected, abs=1e-7)
    posterior = (joint - evidence).exp()
    w1 = nodes[:, 0, 0]
    moments = ((posterior * w1).sum().item(), (posterior * w1**2).sum().item())
    assert moments == pytest.approx(golden.WEIGHT_MOMENTS[ratings], abs=1e-7)
    if not ratings:
        other = (log_mass[:, 0] + law.log_prob(torch.zeros(64).double())).logsumexp(0)
        assert other.item() == pytest.approx(golden.EVIDENCE_OTHER, abs=1e-7)


def test_rating_evidence():
    evidence = rating_evidence(golden.batch(True), golden.conditionals()).sum()
    assert evidence.item() == pytest.approx(golden.EVIDENCE_RATINGS, abs=1e-9)


def test_evidence_by_adaptive_integration_without_our_code():
    """Integrate over w and Delta by hand, so that a wrong formula of ours cannot agree."""

    def given(first):
        a = 1.5 * (first * 1.0 + (1 - first) * -0.4), 1.5 * (first * 0.3 + (1 - first) * 0.8)
        mean, sd = a[0] * 0.8 + a[1] * -0.6, (2 * (a[0] ** 2 + a[1] ** 2)) ** 0.5
        inner = quad(lambda x: expit(mean + sd * x) * norm.pdf(x), -12, 12, epsabs=1e-12)[0]
        return beta.pdf(first, 2, 1) * inner

    probability = quad(given, 0, 1, epsabs=1e-11)[0]
    assert math.log(probability) == pytest.approx(golden.EVIDENCE, abs=1e-9)

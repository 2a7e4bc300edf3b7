"""Families of q(w): of the prior, or the one that was asked for."""

import functools
from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from helpers.problems import HIDDEN_SIZE, labelled_prompt, random_conditionals, small_batch
from torch.nn.functional import logsigmoid

from vrm_pyro.models.distributions import (
    LogisticNormal,
    as_dirichlet,
    as_logistic_normal,
    weight_moments,
    weight_nodes,
)
from vrm_pyro.models.guides import FlowGuide, FullCovarianceGuide, OutcomeAwareGuide
from vrm_pyro.models.guides.outcome_aware import check_outcome_aware
from vrm_pyro.models.likelihoods import expect_normal

DIRICHLET = dist.Dirichlet
PAIRS = ("pair_first", "pair_second", "preference", "pair_weight")


def prior_of(family, alpha):
    law = dist.Dirichlet(alpha)
    if family == "mixture":
        return dist.MixtureSameFamily(
            dist.Categorical(torch.ones(len(alpha), 2).double()),
            dist.Dirichlet(torch.stack([alpha, alpha.flip(-1)], 1)),
        )
    return law if family == "dirichlet" else as_logistic_normal(law)


@pytest.mark.parametrize("kind", [OutcomeAwareGuide, FullCovarianceGuide, FlowGuide])
@pytest.mark.parametrize(
    ("prior", "weights", "family"),
    [
        ("dirichlet", "prior", DIRICHLET),
        ("dirichlet", "dirichlet", DIRICHLET),
        ("dirichlet", "logistic_normal", LogisticNormal),
        ("logistic_normal", "prior", LogisticNormal),
        ("logistic_normal", "dirichlet", DIRICHLET),
        ("logistic_normal", "logistic_normal", LogisticNormal),
        ("mixture", "prior", DIRICHLET),
        ("mixture", "dirichlet", DIRICHLET),
        ("mixture", "logistic_normal", LogisticNormal),
    ],
)
def test_family_is_the_one_asked_for(kind, prior, weights, family):
    batch = small_batch(num_objectives=4)
    heads = random_conditionals(batch.num_prompts, batch.num_responses)
    heads = replace(heads, weights=prior_of(prior, heads.weights.concentration))
    guide = kind(weights=weights).build(HIDDEN_SIZE, 4, 4).double()
    assert isinstance(guide.weights(batch, heads), family)
    # Without pairs: the prior, as far as the family holds it.
    silent = replace(batch, **{key: getattr(batch, key)[:0] for key in PAIRS})
    match = as_dirichlet if family is DIRICHLET else as_logistic_normal
    w = dist.Dirichlet(torch.ones(5, 4).double()).sample()
    expected = match(heads.weights).log_prob(w)
    assert torch.allclose(guide.weights(silent, heads).log_prob(w), expected)


def test_another_family_is_refused():
    with pytest.raises(ValueError, match="OutcomeAwareGuide: weights is 'gaussian'"):
        check_outcome_aware(OutcomeAwareGuide(), 16, "gaussian")


@functools.cache
def exact_posterior(prior, spread, seed):
    """Return mean and sd of w given 40 labels, by importance weights of quasi-random nodes."""
    batch, heads, difference = labelled_prompt(seed=seed)
    law = prior_of(prior, torch.tensor([[1.5, 1.0, 2.0, 1.0]]).double())
    loc = heads.features.mean
    features = dist.Normal(loc, torch.full_like(loc, spread)).to_event(1)
    heads = replace(heads, weights=law, features=features)
    w = weight_nodes(law, 4096)[:, 0]
    delta = (2 * batch.preference - 1) * (w @ difference.T)
    variance = 2 * (heads.reward.scale * spread) ** 2 * w.square().sum(-1, keepdim=True)
    chance = expect_normal(torch.sigmoid, delta, variance.expand_as(delta), num_nodes=16)
    mass = torch.softmax(chance.log().sum(-1), 0)
    mean = mass @ w
    return batch, heads, mean, (mass @ (w - mean) ** 2).sqrt()


# The largest |E_q w - E w| in posterior standard deviations and of sd_q / sd. A logistic-normal q
# has its mode where the posterior of u has it, so its mean is off where that is skewed.
LIMITS = {
    ("dirichlet", "dirichlet"): (0.35, 1.35),
    ("dirichlet", "logistic_normal"): (0.5, 1.75),
    ("logistic_normal", "dirichlet"): (0.45, 1.35),
    ("logistic_normal", "logistic_normal"): (0.7, 1.9),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("prior", "weights"), LIMITS)
@pytest.mark.parametrize("spread", [1e-3, 1.5])
def test_many_pairs_give_nearly_the_exact_posterior(prior, weights, spread, seed):
    """40 labels, gains not yet learned, scores known or not: E[w] and sd."""
    batch, heads, mean, sd = exact_posterior(prior, spread, seed)
    guide = OutcomeAwareGuide(weights=weights).build(HIDDEN_SIZE, 4, 4).double()
    found = weight_moments(guide.weights(batch, heads))
    furthest, widest = LIMITS[prior, weights]
    assert ((found.mean[0] - mean).abs() < furthest * sd).all()
    ratio = found.covariance[0].diagonal().sqrt() / sd
    assert ((ratio > 0.9) & (ratio < widest)).all(), ratio
    # The labels say more than the prior does.
    assert ((weight_moments(heads.weights).mean[0] - mean).abs() > (2 - spread / 2) * sd).any()


@pytest.mark.parametrize("seed", range(3))
def test_logistic_normal_update_is_laplace_s(seed):
    """loc at the mode of the density of u, covariance the inverse of the curvature there."""
    batch, heads, difference = labelled_prompt(seed=seed)
    prior = as_logistic_normal(dist.Dirichlet(torch.tensor([[1.5, 1.0, 2.0, 1.0]]).double()))
    guide = OutcomeAwareGuide().build(HIDDEN_SIZE, 4, 4).double()
    q = guide.weights(batch, replace(heads, weights=prior))

    def log_density(u):
        delta = difference @ prior.to_simplex(u)[0]
        pairs = logsigmoid((2 * batch.preference - 1) * delta).sum()
        return prior.base.log_prob(u).sum() + pairs

    mode = q.loc.detach()
    slope = torch.autograd.functional.jacobian(log_density, mode)[0]
    covariance = (q.scale_tril @ q.scale_tril.mT)[0].detach()
    assert slope @ covariance @ slope < 1e-4  # what another step would gain, in nats
    # The curvature of Delta itself is left out, so that it stays positive (Gauss-Newton).
    delta = torch.autograd.functional.jacobian(lambda u: difference @ prior.to_simplex(u)[0], mode)
    chance = torch.sigmoid(difference @ prior.to_simplex(mode)[0])
    weighted = delta[:, 0] * (chance * (1 - chance)).unsqueeze(-1)
    precision = torch.cholesky_inverse(prior.scale_tril)[0] + delta[:, 0].T @ weighted
    assert torch.allclose(torch.linalg.inv(covariance), precision, rtol=5e-2, atol=0.05)

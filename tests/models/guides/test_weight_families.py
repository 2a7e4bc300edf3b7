"""Families of q(w): of the prior, or the one that was asked for."""

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
)
from vrm_pyro.models.guides import FlowGuide, FullCovarianceGuide, OutcomeAwareGuide
from vrm_pyro.models.guides.outcome_aware import check_outcome_aware

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


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("prior", ["dirichlet", "logistic_normal"])
@pytest.mark.parametrize("weights", ["dirichlet", "logistic_normal"])
def test_many_pairs_give_nearly_the_exact_posterior(prior, weights, seed):
    """40 labels at known scores, gains not yet learned: E[w] and sd against importance draws."""
    batch, heads, difference = labelled_prompt(seed=seed)
    law = prior_of(prior, torch.tensor([[1.5, 1.0, 2.0, 1.0]]).double())
    w = law.sample((100_000,))[:, 0]
    sign = 2 * batch.preference - 1
    mass = torch.softmax(logsigmoid(sign * (w @ difference.T)).sum(-1), 0)
    mean = mass @ w
    sd = (mass @ (w - mean) ** 2).sqrt()
    guide = OutcomeAwareGuide(weights=weights).build(HIDDEN_SIZE, 4, 4).double()
    found = weight_moments(guide.weights(batch, replace(heads, weights=law)))
    assert ((found.mean[0] - mean).abs() < 0.75 * sd).all()
    ratio = found.covariance[0].diagonal().sqrt() / sd
    assert ((ratio > 0.55) & (ratio < 2)).all(), ratio
    # The labels say more than the prior does.
    assert ((weight_moments(law).mean[0] - mean).abs() > 2 * sd).any()


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

"""A distribution of w from one family, fitted to a distribution of another."""

import pyro.distributions as dist
import pytest
import torch
from helpers.problems import assert_within

from vrm_pyro.models.distributions import (
    LogisticNormal,
    as_dirichlet,
    as_logistic_normal,
    divergence,
    weight_moments,
)
from vrm_pyro.models.distributions.logistic_normal import contrast_basis

ALPHA = torch.tensor([[2.0, 0.7, 4.0], [0.4, 0.3, 0.5]]).double()


def test_a_law_of_the_family_stays_itself():
    dirichlet = dist.Dirichlet(ALPHA)
    assert as_dirichlet(dirichlet) is dirichlet
    logistic_normal = LogisticNormal(torch.zeros(2, 2), torch.eye(2))
    assert as_logistic_normal(logistic_normal) is logistic_normal


def test_logistic_normal_has_the_moments_of_the_log_ratios():
    law = as_logistic_normal(dist.Dirichlet(ALPHA))
    u = dist.Dirichlet(ALPHA).sample((200_000,)).log() @ contrast_basis(3, ALPHA)
    assert_within(law.loc, u.mean(0), u.std(0) / 200_000**0.5, 4.5)
    products = torch.einsum("spi,spj->spij", u - u.mean(0), u - u.mean(0))
    covariance = law.scale_tril @ law.scale_tril.mT
    assert_within(covariance, products.mean(0), products.std(0) / 200_000**0.5, 4.5)


@pytest.mark.parametrize(("concentration", "nats"), [(1.0, 0.147), (0.3, 0.38)])
def test_how_far_the_matched_law_is_from_its_dirichlet(concentration, nats):
    """KL(logistic-normal || Dirichlet), K = 4 (spec 2.7); by draws, and by the formula."""
    dirichlet = dist.Dirichlet(torch.full((1, 4), concentration).double())
    law = as_logistic_normal(dirichlet)
    w = law.sample((400_000,))
    ratio = (law.log_prob(w) - dirichlet.log_prob(w))[:, 0]
    error = ratio.std() / 400_000**0.5
    assert_within(ratio.mean(), nats, error + 1e-3, 3)
    assert divergence(law, dirichlet).item() == pytest.approx(ratio.mean().item(), abs=3e-3)
    # The other direction is another number.
    assert divergence(dirichlet, law).item() > divergence(law, dirichlet).item() + 1e-3


def test_dirichlet_has_the_mean_and_the_total_variance():
    factor = torch.tensor([[0.9, 0], [0.4, 0.7]]).double()
    law = LogisticNormal(torch.tensor([[0.5, -0.3], [1.5, 0.2]]).double(), factor)
    wanted, found = weight_moments(law), weight_moments(as_dirichlet(law))
    assert torch.allclose(found.mean, wanted.mean, atol=1e-12)

    def total(moments):
        return moments.covariance.diagonal(dim1=-2, dim2=-1).sum(-1)

    assert torch.allclose(total(found), total(wanted), rtol=1e-9)


def test_there_and_back_keeps_the_mean():
    back = as_dirichlet(as_logistic_normal(dist.Dirichlet(ALPHA)))
    assert torch.allclose(back.mean, dist.Dirichlet(ALPHA).mean, atol=0.03)
    # Tails of log w are lighter than a Dirichlet's, so what comes back is less sure.
    assert (back.concentration.sum(-1) < ALPHA.sum(-1)).all()


def test_a_law_without_formulas_is_fitted_by_its_nodes():
    """A mixture of one Dirichlet with itself is that Dirichlet, up to 512 draws."""
    twice = torch.stack([ALPHA, ALPHA], 1)
    law = dist.MixtureSameFamily(
        dist.Categorical(torch.ones(2, 2).double()), dist.Dirichlet(twice)
    )
    found = as_dirichlet(law)
    sd = dist.Dirichlet(ALPHA).stddev
    assert ((found.mean - dist.Dirichlet(ALPHA).mean).abs() < 4.5 * sd / 512**0.5).all()
    assert torch.allclose(found.concentration.sum(-1), ALPHA.sum(-1), rtol=0.1)
    # Of what the nodes have, nothing is lost.
    nodes = weight_moments(law)
    assert torch.allclose(found.mean, nodes.mean, atol=1e-12)
    total = nodes.covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert torch.allclose(found.variance.sum(-1), total, rtol=1e-9)
    bridged, exact = as_logistic_normal(law), as_logistic_normal(dist.Dirichlet(ALPHA))
    spread = (exact.scale_tril @ exact.scale_tril.mT).diagonal(dim1=-2, dim2=-1).sqrt()
    assert ((bridged.loc - exact.loc).abs() < 4.5 * spread / 512**0.5).all()


def test_a_point_becomes_a_very_sure_law():
    point = dist.Delta(torch.tensor([[0.2, 0.5, 0.3]]).double(), event_dim=1)
    found = as_dirichlet(point)
    assert torch.allclose(found.mean, point.v)
    assert found.concentration.sum().item() == pytest.approx(1e6)


def test_gradients_pass_through_the_match():
    alpha = ALPHA.clone().requires_grad_()
    law = as_dirichlet(as_logistic_normal(dist.Dirichlet(alpha)))
    (gradient,) = torch.autograd.grad(law.concentration.sum(), alpha)
    assert gradient.isfinite().all()
    assert (gradient.abs() > 0).all()

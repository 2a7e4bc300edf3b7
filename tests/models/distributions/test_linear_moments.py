"""Moments of w'd in closed form, and means over nodes corrected by them."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import beta

from vrm_pyro.models.distributions import LogisticNormal, weight_nodes
from vrm_pyro.models.distributions.linear_moments import controlled_mean, linear_moments

ONE = torch.tensor([0])


def direction(*values):
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize(("a", "b"), [(0.3, 0.3), (1.0, 4.0), (20.0, 7.0)])
def test_two_weights_have_the_moments_of_a_beta(a, b):
    found = linear_moments(
        dist.Dirichlet(torch.tensor([[a, b]]).double()), ONE, direction(5.0, 2.0), 6
    )
    law = beta(a, b, loc=2.0, scale=3.0)  # 2 + 3 w_1
    assert found.loc.item() == pytest.approx(law.mean(), rel=1e-6)
    assert found.scale.item() == pytest.approx(law.std(), rel=1e-6)
    for j, power in enumerate(found.powers[0], 1):
        wanted = law.expect(lambda t, j=j: ((t - law.mean()) / law.std()) ** j, epsabs=1e-12)
        # The density has a pole at its ends for a or b below 1.
        assert power.item() == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_moments_are_those_of_draws():
    torch.manual_seed(0)
    alpha = torch.tensor([[0.4, 1.3, 2.0, 0.8], [3.0, 0.2, 0.7, 5.0]]).double()
    gap = torch.randn(2, 4).double()
    prompt = torch.tensor([1, 0])
    found = linear_moments(dist.Dirichlet(alpha), prompt, gap)
    num = 200_000
    t = (dist.Dirichlet(alpha[prompt]).sample((num,)) * gap).sum(-1)
    x = (t - found.loc) / found.scale
    for j in range(found.powers.shape[-1]):
        drawn = x ** (j + 1)
        error = drawn.std(0) / num**0.5
        assert ((drawn.mean(0) - found.powers[:, j]).abs() < 4.5 * error).all()


def test_polynomials_are_exact_whatever_the_nodes():
    torch.manual_seed(1)
    alpha, gap = torch.tensor([[0.5, 1.0, 2.0]]).double(), direction(1.0, -2.0, 0.7)
    moments = linear_moments(dist.Dirichlet(alpha), ONE, gap)
    t = torch.rand(1, 40).double() * 3 - 2  # not even of this distribution
    x = (t - moments.loc) / moments.scale
    slopes = torch.randn(5).double()
    value = 0.3 + sum(slope * x**j for j, slope in enumerate(slopes, 1))
    wanted = 0.3 + float(moments.powers[0] @ slopes)
    assert controlled_mean(value, t, moments).item() == pytest.approx(wanted, rel=1e-3)


def test_it_is_nearer_than_the_plain_mean():
    """Over 200 prompts and gaps of scores up to 6: root mean square error against 2^15 nodes."""
    torch.manual_seed(2)
    prompt = torch.arange(200)
    weights = dist.Dirichlet(torch.rand(200, 4) * 2 + 0.2)
    gap = 2 * torch.randn(200, 4)
    moments = linear_moments(weights, prompt, gap)
    linear = [(weight_nodes(weights, num) * gap).sum(-1).T for num in (512, 2**15)]
    few, many = (torch.sigmoid(t) for t in linear)
    exact = many.double().mean(-1)
    plain, controlled = (
        (found - exact).square().mean().sqrt().item()
        for found in (few.mean(-1), controlled_mean(few, linear[0], moments))
    )
    assert controlled < plain / 3
    assert controlled < 2e-4


@pytest.mark.parametrize("gap", [(0.0, 0.0, 0.0), (1.5, 1.5, 1.5), (1.5, 1.5, 1.50001)])
def test_equal_scores_leave_the_mean(gap):
    weights = dist.Dirichlet(torch.tensor([[0.5, 1.0, 2.0]]))
    gap = torch.tensor([gap])
    linear = (weight_nodes(weights, 64) * gap).sum(-1).T
    found = controlled_mean(
        torch.sigmoid(linear), linear, linear_moments(weights, ONE, gap)
    ).item()
    assert found == pytest.approx(torch.sigmoid(gap[0, 0]).item(), abs=1e-5)


def test_sharp_weights_are_a_point():
    weights = dist.Dirichlet(1e9 * torch.tensor([[0.2, 0.3, 0.5]]))
    gap = torch.tensor([[3.0, -1.0, 0.5]])
    linear = (weight_nodes(weights, 512) * gap).sum(-1).T
    found = controlled_mean(torch.sigmoid(linear), linear, linear_moments(weights, ONE, gap))
    assert found.item() == pytest.approx(1 / (1 + np.exp(-0.55)), abs=1e-5)


def test_gradients_are_those_of_many_nodes():
    gap = direction(2.0, -1.0, 0.3)
    slopes = []
    for num, controlled in ((256, True), (2**15, False)):
        alpha = torch.tensor([[0.7, 1.2, 0.5]]).double().requires_grad_()
        weights = dist.Dirichlet(alpha)
        linear = (weight_nodes(weights, num) * gap).sum(-1).T
        value = torch.sigmoid(linear)
        moments = linear_moments(weights, ONE, gap)
        mean = controlled_mean(value, linear, moments) if controlled else value.mean(-1)
        (slope,) = torch.autograd.grad(mean.sum(), alpha)
        slopes.append(slope)
    assert torch.allclose(*slopes, atol=2e-3)


def test_a_family_without_closed_moments_has_none():
    weights = LogisticNormal(torch.zeros(1, 2), torch.eye(2).expand(1, 2, 2))
    assert linear_moments(weights, ONE, direction(1.0, 0.0, 2.0)) is None

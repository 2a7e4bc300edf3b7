"""Nodes and moments of distributions of w."""

import pyro.distributions as dist
import pytest
import torch
from helpers.problems import assert_within

from vrm_pyro.models.distributions import (
    LogisticNormal,
    expected_log,
    weight_moments,
    weight_nodes,
)
from vrm_pyro.models.distributions.simplex import node_reader

CONCENTRATIONS = torch.tensor(
    [[0.1, 0.3, 1.0, 5.0], [50.0, 0.5, 2.0, 10.0], [1.0, 1.0, 1.0, 1.0]]
).double()


def mixture(dtype=torch.float64):
    """Return a mixture of Dirichlets, batch (3,): a distribution without closed forms."""
    components = torch.stack([CONCENTRATIONS, CONCENTRATIONS.flip(-1)], 1).to(dtype)
    return dist.MixtureSameFamily(
        dist.Categorical(torch.ones(3, 2, dtype=dtype)), dist.Dirichlet(components)
    )


def laws():
    dirichlet = dist.Dirichlet(CONCENTRATIONS)
    factor = torch.tensor([[0.9, 0, 0], [0.4, 0.7, 0], [-0.3, 0.2, 0.5]]).double()
    logistic_normal = LogisticNormal(torch.randn(3, 3).double(), factor)
    return {
        "Dirichlet": dirichlet,
        "LogisticNormal": logistic_normal,
        "Mixture": mixture(),
        "Delta": dist.Delta(dirichlet.sample(), event_dim=1),
    }


EACH = pytest.mark.parametrize("name", ["Delta", "Dirichlet", "LogisticNormal", "Mixture"])


@EACH
def test_nodes_lie_on_the_simplex_and_are_the_same_on_each_call(name):
    law = laws()[name]
    before = torch.random.get_rng_state()
    nodes = weight_nodes(law, 64)
    assert torch.equal(before, torch.random.get_rng_state())
    assert nodes.shape == (64, 3, 4)
    assert torch.allclose(nodes.sum(-1), torch.ones(64, 3).double())
    torch.rand(7)
    assert torch.equal(nodes, weight_nodes(law, 64))


@pytest.mark.parametrize("name", ["Delta", "Dirichlet", "LogisticNormal"])
def test_a_prompt_has_its_nodes_whatever_stands_beside_it(name):
    """Scores must not depend on batch mates or order."""
    order = torch.tensor([2, 0])
    law = laws()[name]
    parts = {
        "Delta": lambda: dist.Delta(law.v[order], event_dim=1),
        "Dirichlet": lambda: dist.Dirichlet(law.concentration[order]),
        "LogisticNormal": lambda: LogisticNormal(law.loc[order], law.scale_tril[order]),
    }
    alone = weight_nodes(parts[name](), 32)
    assert torch.allclose(alone, weight_nodes(law, 32)[:, order], rtol=1e-12)


@EACH
def test_nodes_of_some_rows_are_theirs(name):
    law, rows = laws()[name], torch.tensor([2, 0])
    found = node_reader(law, 64)(rows)
    assert torch.allclose(found, weight_nodes(law, 64)[:, rows], rtol=1e-12)


@EACH
def test_moments_by_draws(name):
    """Closed for a Dirichlet and a point; by fixed nodes for the others."""
    law = laws()[name]
    w = law.sample((100_000,))
    moments = weight_moments(law)
    # What 512 independent draws leave for the mixture; quasi-random ones leave less.
    slack = {"Mixture": w.std(0) / 512**0.5, "LogisticNormal": 2e-4}.get(name, 1e-12)
    assert_within(moments.mean, w.mean(0), w.std(0) / 100_000**0.5 + slack, 4.5)
    products = torch.einsum("spk,spl->spkl", w - w.mean(0), w - w.mean(0))
    slack = {"Mixture": products.std(0) / 512**0.5, "LogisticNormal": 2e-4}.get(name, 1e-12)
    error = products.std(0) / 100_000**0.5 + slack
    assert_within(moments.covariance, products.mean(0), error, 4.5)
    rows = moments.rows(torch.tensor([2, 2, 0]))
    assert torch.equal(rows.mean, moments.mean[[2, 2, 0]])
    assert torch.equal(rows.covariance, moments.covariance[[2, 2, 0]])


def test_nodes_of_a_dirichlet_have_its_moments():
    """Nearer than as many independent draws would be: each within their standard error."""
    law = dist.Dirichlet(CONCENTRATIONS)
    exact = weight_moments(law)
    w = law.sample((100_000,))
    centred = w - exact.mean
    of_products = torch.einsum("spk,spl->spkl", centred, centred).std(0)
    for num_draws in (64, 512):
        nodes = weight_nodes(law, num_draws)
        error = w.std(0) / num_draws**0.5
        assert ((nodes.mean(0) - exact.mean).abs() < error / 3).all()
        centred = nodes - exact.mean
        covariance = torch.einsum("spk,spl->pkl", centred, centred) / num_draws
        error = of_products / num_draws**0.5
        assert ((covariance - exact.covariance).abs() < error).all()


def test_gradient_of_dirichlet_nodes_against_differences():
    """The pathwise derivative at fixed probabilities; torch's own approximation of it."""
    target = torch.randn(512, 3, 4).double()

    def value(concentration):
        return (weight_nodes(dist.Dirichlet(concentration), 512) * target).sum()

    concentration = CONCENTRATIONS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(concentration), concentration)
    for row in range(3):
        for column in range(4):
            step = torch.zeros(3, 4).double()
            step[row, column] = 1e-5 * CONCENTRATIONS[row, column]
            difference = value(CONCENTRATIONS + step) - value(CONCENTRATIONS - step)
            slope = (difference / (2 * step[row, column])).item()
            assert gradient[row, column].item() == pytest.approx(slope, rel=5e-3, abs=1e-3)


def test_gradient_of_moments_reaches_the_parameters():
    concentration = CONCENTRATIONS.clone().requires_grad_()
    nodes = weight_nodes(dist.Dirichlet(concentration), 512)
    by_nodes = torch.autograd.grad(nodes.mean(0)[:, 0].sum(), concentration)[0]
    exact = torch.autograd.grad(
        weight_moments(dist.Dirichlet(concentration)).mean[:, 0].sum(), concentration
    )[0]
    assert torch.allclose(by_nodes, exact, atol=2e-3)


@EACH
def test_expected_log_by_draws(name):
    law = laws()[name]
    log_w = law.sample((200_000,)).clamp(min=1e-300).log()
    slack = {"Mixture": log_w.std(0) / 512**0.5, "LogisticNormal": 3e-4}.get(name, 1e-12)
    error = log_w.std(0) / 200_000**0.5 + slack
    assert_within(expected_log(law), log_w.mean(0), error, 4.5)


def test_float32_agrees_with_float64():
    double, single = dist.Dirichlet(CONCENTRATIONS), dist.Dirichlet(CONCENTRATIONS.float())
    nodes = weight_nodes(single, 64)
    assert nodes.dtype == torch.float32
    assert (nodes > 0).all()
    assert torch.allclose(nodes, weight_nodes(double, 64).float(), atol=1e-5)
    for one, two in zip(weight_moments(single), weight_moments(double), strict=True):
        assert torch.allclose(one, two.float(), atol=1e-6)
    assert weight_nodes(mixture(torch.float32), 8).dtype == torch.float32

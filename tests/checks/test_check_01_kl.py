"""Check 1: KL terms against quadrature and Monte Carlo, charged once and summed, not averaged."""

from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from helpers.problems import assert_within, random_conditionals, small_batch, small_model

from vrm_pyro.models.likelihoods import hermite_nodes
from vrm_pyro.models.objectives import SampledObjective, Weights
from vrm_pyro.models.objectives.base import kl_terms
from vrm_pyro.models.objectives.integrated import integrated_terms


def kl_of_weights(q, p):
    """Return the charge of w as the objectives compute it, for two concentrations (K,)."""
    conditionals = replace(
        random_conditionals(1, 1, len(q)), weights=dist.Dirichlet(p.unsqueeze(0))
    )
    return kl_terms(dist.Dirichlet(q.unsqueeze(0)), conditionals.features, conditionals)[0][0]


def kl_of_features(q, p):
    """Return the charge of z for two (loc, scale) of shape (d_z,)."""
    conditionals = replace(
        random_conditionals(1, 1), features=dist.Normal(p[0][None], p[1][None]).to_event(1)
    )
    return kl_terms(
        conditionals.weights, dist.Normal(q[0][None], q[1][None]).to_event(1), conditionals
    )[1][0]


@pytest.mark.parametrize(
    ("q", "p"),
    [((2.0, 1.0), (1.0, 1.0)), ((0.3, 0.7), (1.0, 2.0)), ((50.0, 8.0), (3.0, 0.4))],
)
def test_dirichlet_kl_by_quadrature(q, p):
    q, p = torch.tensor(q).double(), torch.tensor(p).double()
    # w = sigmoid(t): the integrand decays exponentially, where the trapezoid rule is spectral.
    t = torch.linspace(-200, 200, 40_001).double()
    log_w = torch.stack([-torch.nn.functional.softplus(-t), -torch.nn.functional.softplus(t)], -1)

    def log_density(alpha):
        """Return the log density of t; w^(a-1) (1-w)^(b-1) times dw/dt = w (1-w)."""
        return (alpha * log_w).sum(-1) + alpha.sum().lgamma() - alpha.lgamma().sum()

    ratio = log_density(q) - log_density(p)
    by_quadrature = torch.trapezoid(log_density(q).exp() * ratio, t)
    assert abs(kl_of_weights(q, p) - by_quadrature) < 1e-8


def test_normal_kl_by_quadrature():
    q = torch.tensor([0.3, -1.0]).double(), torch.tensor([0.5, 1.7]).double()
    p = torch.tensor([-0.2, 0.4]).double(), torch.tensor([1.2, 0.8]).double()
    nodes, weights = hermite_nodes(q[0])
    x = q[0].unsqueeze(-1) + q[1].unsqueeze(-1) * nodes  # (d_z, nodes)

    def log_density(law):
        return dist.Normal(law[0].unsqueeze(-1), law[1].unsqueeze(-1)).log_prob(x)

    by_quadrature = ((log_density(q) - log_density(p)) * weights).sum()
    assert abs(kl_of_features(q, p) - by_quadrature) < 1e-8


@pytest.mark.parametrize("alpha", [0.3, 1.0, 5.0, 50.0])
def test_dirichlet_kl_by_monte_carlo(alpha):
    q = alpha * torch.tensor([1.3, 1.0, 0.7, 1.0]).double()
    p = torch.tensor([2.0, 1.0, 0.5, 1.0]).double()
    w = torch.distributions.Dirichlet(q).sample((1_000_000,))
    ratio = torch.distributions.Dirichlet(q).log_prob(w)
    ratio = ratio - torch.distributions.Dirichlet(p).log_prob(w)
    assert_within(ratio.mean(), kl_of_weights(q, p), ratio.std() / 1000, 4)


def test_normal_kl_by_monte_carlo():
    q = torch.tensor([0.3, -1.0, 0.0]).double(), torch.tensor([0.5, 1.7, 0.1]).double()
    p = torch.tensor([-0.2, 0.4, 0.0]).double(), torch.tensor([1.2, 0.8, 1.0]).double()
    z = q[0] + q[1] * torch.randn(1_000_000, 3).double()
    ratio = (dist.Normal(*q).log_prob(z) - dist.Normal(*p).log_prob(z)).sum(-1)
    assert_within(ratio.mean(), kl_of_features(q, p), ratio.std() / 1000, 4)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 50.0, 1e4])
def test_kl_of_a_law_with_itself_is_zero(alpha):
    concentration = alpha * torch.tensor([1.3, 1.0, 0.7, 1.0]).double()
    assert abs(kl_of_weights(concentration, concentration.clone())) < 1e-12
    law = torch.tensor([0.3, -1.0]).double() * alpha, torch.tensor([0.5, 1.7]).double() * alpha
    assert abs(kl_of_features(law, (law[0].clone(), law[1].clone()))) < 1e-12


@pytest.mark.parametrize("mode", ["conditional", "vib"])
def test_block_sums_equal_the_kl_of_the_trace(mode):
    """Pyro's objective is likelihood minus KL; the rest must be our sums, item for item."""
    model, batch = small_model(mode), small_batch()
    conditionals = model.conditionals(batch)
    terms = SampledObjective(3).terms(model, model.guide, batch, conditionals, Weights())
    in_the_trace = terms.preference + terms.rating - terms.objective
    kl_w, kl_z = kl_terms(*model.guide.posterior(batch, conditionals), conditionals)
    assert kl_w.shape == (batch.num_prompts,)
    assert kl_z.shape == (batch.num_responses,)
    assert torch.allclose(in_the_trace, kl_w.sum() + kl_z.sum(), rtol=0, atol=1e-10)
    half = SampledObjective(3).terms(
        model, model.guide, batch, conditionals, Weights(kl_weights=0.5, kl_features=0.25)
    )
    in_the_trace = half.preference + half.rating - half.objective
    assert torch.allclose(in_the_trace, 0.5 * kl_w.sum() + 0.25 * kl_z.sum(), rtol=0, atol=1e-10)


def test_unused_features_cost_nothing():
    """A mean over d_z in the KL would shrink the charge as features are added."""
    batch = small_batch(num_objectives=4)
    conditionals = random_conditionals(batch.num_prompts, batch.num_responses, seed=3)
    other = random_conditionals(batch.num_prompts, batch.num_responses, seed=4)
    nodes = other.weights.sample((16,))
    log_mass = torch.full((16,), 1 / 16, dtype=torch.float64).log()

    def widened(law, extra):
        loc, scale = (
            torch.cat([value, more], -1)
            for value, more in zip((law.base_dist.loc, law.base_dist.scale), extra, strict=True)
        )
        return dist.Normal(loc, scale).to_event(1)

    extra = torch.randn(batch.num_responses, 5).double(), torch.rand(batch.num_responses, 5) + 0.5
    zeros = torch.zeros(4, 5).double()
    wide = replace(
        conditionals,
        features=widened(conditionals.features, extra),
        reward=replace(
            conditionals.reward, loading=torch.cat([conditionals.reward.loading, zeros], 1)
        ),
    )
    narrow_terms = integrated_terms(
        batch, conditionals, other.weights, other.features, nodes, log_mass, Weights()
    )
    wide_terms = integrated_terms(
        batch, wide, other.weights, widened(other.features, extra), nodes, log_mass, Weights()
    )
    assert torch.allclose(narrow_terms.objective, wide_terms.objective, rtol=0, atol=1e-10)
    assert narrow_terms.kl_features > 1

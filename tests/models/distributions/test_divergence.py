"""KL between distributions of one latent, against quadrature, draws and torch's dense formulas."""

import pyro.distributions as dist
import pytest
import torch
from helpers.problems import assert_within
from scipy.integrate import quad

from vrm_pyro.models.distributions import LogisticNormal, divergence, has_closed_divergence

NUM_DRAWS = 200_000


def dirichlet(*concentration):
    return dist.Dirichlet(torch.tensor(concentration, dtype=torch.float64))


def logistic_normal(loc, factor):
    return LogisticNormal(
        torch.tensor(loc, dtype=torch.float64), torch.tensor(factor, dtype=torch.float64)
    )


def mixture(share, *concentrations):
    """Return a mixture of Dirichlets: no reparameterised draws, no closed KL."""
    return dist.MixtureSameFamily(
        dist.Categorical(torch.tensor(share).double()),
        dist.Dirichlet(torch.tensor(concentrations).double()),
    )


def normal(loc, scale):
    return dist.Normal(loc, scale).to_event(1)


LAWS_OF_4 = {
    "Dirichlet": (dirichlet(2.0, 0.7, 4.0, 1.5), dirichlet(1.0, 2.0, 0.8, 3.0)),
    "LogisticNormal": (
        logistic_normal([0.5, -0.3, 0.2], [[0.9, 0, 0], [0.4, 0.7, 0], [-0.3, 0.2, 0.5]]),
        logistic_normal([0.0, 0.4, -0.2], [[1.1, 0, 0], [-0.2, 0.8, 0], [0.1, 0.3, 1.2]]),
    ),
}
LAWS_OF_2 = {
    "Dirichlet": (dirichlet(2.0, 0.7), dirichlet(1.0, 2.5)),
    "LogisticNormal": (logistic_normal([0.5], [[0.9]]), logistic_normal([-0.2], [[1.2]])),
}
PAIRS = pytest.mark.parametrize("p_name", sorted(LAWS_OF_4))
EACH = pytest.mark.parametrize("q_name", sorted(LAWS_OF_4))


def by_nodes(q, p):
    """Return the error that fixed nodes of E log w leave; 0 for a closed form."""
    return 1e-3 if isinstance(q, LogisticNormal) and isinstance(p, dist.Dirichlet) else 0.0


@EACH
@PAIRS
def test_against_draws(q_name, p_name):
    q, p = LAWS_OF_4[q_name][0], LAWS_OF_4[p_name][1]
    w = q.sample((NUM_DRAWS,))
    ratio = q.log_prob(w) - p.log_prob(w)
    error = ratio.std() / NUM_DRAWS**0.5 + by_nodes(q, p) / 4
    assert_within(divergence(q, p), ratio.mean(), error, 4)
    assert has_closed_divergence(q, p)


@EACH
@PAIRS
def test_two_objectives_against_quadrature(q_name, p_name):
    q, p = LAWS_OF_2[q_name][0], LAWS_OF_2[p_name][1]

    def integrand(logit):
        # In the logit: the ends of the simplex, where densities may be infinite, are far away.
        one = torch.sigmoid(torch.tensor(logit, dtype=torch.float64))
        w = torch.stack([one, torch.sigmoid(-torch.tensor(logit, dtype=torch.float64))])
        log_q = q.log_prob(w)
        return (log_q.exp() * (log_q - p.log_prob(w)) * w.prod()).item()

    exact = quad(integrand, -40, 40, epsabs=1e-11, limit=200)[0]
    assert divergence(q, p).item() == pytest.approx(exact, abs=1e-8 + by_nodes(q, p))


@EACH
def test_from_itself_it_is_zero(q_name):
    for law in (LAWS_OF_4[q_name][0], LAWS_OF_2[q_name][0]):
        assert abs(divergence(law, law).item()) < 1e-12


def test_one_map_of_two_gaussians_has_their_divergence():
    q, p = LAWS_OF_4["LogisticNormal"]
    bases = [
        torch.distributions.MultivariateNormal(law.loc, scale_tril=law.scale_tril)
        for law in (q, p)
    ]
    exact = torch.distributions.kl_divergence(*bases)
    assert divergence(q, p).item() == pytest.approx(exact.item(), abs=1e-12)


def test_batches_are_rows():
    q = dist.Dirichlet(torch.rand(5, 4).double() + 0.3)
    p = LAWS_OF_4["LogisticNormal"][1].expand((5,))
    for one, other in ((q, p), (p, q)):
        value = divergence(one, other)
        assert value.shape == (5,)
        row = (dirichlet(*q.concentration[3].tolist()), LAWS_OF_4["LogisticNormal"][1])
        single = divergence(*(row if one is q else row[::-1]))
        assert value[3].item() == pytest.approx(single.item(), rel=1e-10)


@pytest.mark.parametrize("diagonal_first", [True, False])
def test_full_and_diagonal_gaussians_against_the_dense_formula(diagonal_first):
    generator = torch.Generator().manual_seed(3)
    loc, other, log_scale = torch.randn(3, 6, 4, generator=generator).double()
    factor = torch.randn(6, 4, 4, generator=generator).double().tril(-1) * 0.4
    factor = factor + torch.diag_embed(torch.rand(6, 4, generator=generator).double() + 0.3)
    full = dist.MultivariateNormal(loc, scale_tril=factor)
    scale = log_scale.exp()
    diagonal = normal(other, scale)
    dense = torch.distributions.MultivariateNormal(other, scale_tril=torch.diag_embed(scale))
    q, p = (diagonal, full) if diagonal_first else (full, diagonal)
    exact = torch.distributions.kl_divergence(
        *((dense, full) if diagonal_first else (full, dense))
    )
    assert has_closed_divergence(q, p)
    assert torch.allclose(divergence(q, p), exact, rtol=1e-9)


def test_a_point_is_charged_its_log_density():
    w = torch.tensor([[0.2, 0.5, 0.3]]).double()
    prior = dist.Dirichlet(torch.tensor([[2.0, 1.0, 3.0]]).double())
    point = dist.Delta(w, event_dim=1)
    assert torch.equal(divergence(point, prior), -prior.log_prob(w))
    assert has_closed_divergence(point, prior)


FALLBACKS = {
    "reparameterised draws": lambda a: (dist.Dirichlet(a), mixture([0.3, 0.7], [1.5, 4], [5, 1])),
    "score function": lambda a: (
        dist.MixtureSameFamily(
            dist.Categorical(torch.tensor([0.3, 0.7]).double()),
            dist.Dirichlet(torch.stack([a, torch.tensor([1.5, 5.0]).double()])),
        ),
        dirichlet(2.0, 1.0),
    ),
}


@pytest.mark.parametrize("kind", sorted(FALLBACKS))
def test_without_a_formula_value_and_gradient_are_unbiased(kind):
    """Against quadrature, and against central differences of it."""
    make, start = FALLBACKS[kind], torch.tensor([2.0, 3.0]).double()

    def exact(concentration):
        q, p = make(concentration)

        def integrand(x):
            w = torch.tensor([x, 1 - x], dtype=torch.float64)
            log_q = q.log_prob(w)
            return (log_q.exp() * (log_q - p.log_prob(w))).item()

        return quad(integrand, 0, 1, epsabs=1e-10, limit=200)[0]

    assert not has_closed_divergence(*make(start))
    concentration = start.clone().requires_grad_()
    values, gradients = [], []
    for _ in range(600):
        value = divergence(*make(concentration))
        values.append(value.detach())
        gradients.append(torch.autograd.grad(value, concentration)[0])
    values, gradients = torch.stack(values), torch.stack(gradients)
    assert_within(values.mean(), exact(start), values.std() / 600**0.5, 4)
    step = 1e-4 * torch.eye(2).double()
    slopes = torch.tensor([(exact(start + s) - exact(start - s)) / 2e-4 for s in step])
    assert_within(gradients.mean(0), slopes, gradients.std(0) / 600**0.5, 4)


def test_one_draw_is_enough_for_an_unbiased_gradient():
    concentration = torch.tensor([2.0, 3.0]).double().requires_grad_()
    q, p = FALLBACKS["score function"](concentration)
    (gradient,) = torch.autograd.grad(divergence(q, p, num_draws=1), concentration)
    assert gradient.abs().min() > 0

"""The logistic-normal distribution: density, draws and nodes, none prefers an objective."""

import itertools

import pyro.distributions as dist
import pytest
import torch
from helpers.problems import assert_within
from scipy.integrate import quad
from scipy.special import logit
from scipy.stats import norm

from vrm_pyro.models.distributions import LogisticNormal, weight_moments
from vrm_pyro.models.distributions.logistic_normal import contrast_basis


def random_law(num_objectives, batch=(), seed=0, dtype=torch.float64):
    """Return a distribution with a dense covariance, near the middle of the simplex."""
    generator = torch.Generator().manual_seed(seed)
    size = num_objectives - 1

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    factor = (0.4 * normal(*batch, size, size)).tril(-1)
    factor = factor + torch.diag_embed((0.3 * normal(*batch, size)).exp() * 0.8)
    return LogisticNormal((0.6 * normal(*batch, size)).to(dtype), factor.to(dtype))


def two(weight):
    """Return the point (w, 1 - w)."""
    return torch.tensor([weight, 1 - weight], dtype=torch.float64)


def test_two_objectives_have_a_logit_normal_weight():
    """u = (log w_1 - log w_2) / sqrt 2: a density that SciPy knows, of mass 1."""
    loc, scale = 0.4, 0.8
    law = LogisticNormal(
        torch.tensor([loc], dtype=torch.float64), torch.tensor([[scale]], dtype=torch.float64)
    )
    for weight in (0.01, 0.3, 0.5, 0.97):
        known = norm.pdf(logit(weight), loc * 2**0.5, scale * 2**0.5) / (weight * (1 - weight))
        assert law.log_prob(two(weight)).exp().item() == pytest.approx(known, rel=1e-10)
    mass = quad(lambda w: law.log_prob(two(w)).exp().item(), 0, 1, epsabs=1e-9)[0]
    assert mass == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("num_objectives", [3, 4])
def test_density_has_mass_one(num_objectives):
    """Against uniform draws of the simplex, whose density is (K - 1)!."""
    law = random_law(num_objectives)
    uniform = dist.Dirichlet(torch.ones(num_objectives).double())
    w = uniform.sample((200_000,))
    ratio = (law.log_prob(w) - uniform.log_prob(w)).exp()
    assert_within(ratio.mean(), 1.0, ratio.std() / 200_000**0.5, 4)


def test_contrasts_are_orthonormal_and_leave_the_mean_of_logs_out():
    for num_objectives in (2, 3, 8):
        basis = contrast_basis(num_objectives, torch.zeros(1).double())
        identity = torch.eye(num_objectives - 1).double()
        assert torch.allclose(basis.T @ basis, identity, atol=1e-12)
        assert basis.sum(0).abs().max() < 1e-12


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[1:])
def test_renamed_objectives_rotate_the_parameters(order):
    """log p(w) = log p'(w renamed), with u' = (H' P H) u: no objective is the reference."""
    law, order = random_law(3), torch.tensor(order)
    basis = contrast_basis(3, law.loc)
    rotation = basis.T @ basis[order]
    covariance = rotation @ law.scale_tril @ law.scale_tril.T @ rotation.T
    renamed = LogisticNormal(rotation @ law.loc, torch.linalg.cholesky(covariance))
    w = law.sample((50,))
    assert torch.allclose(law.log_prob(w), renamed.log_prob(w[:, order]), rtol=1e-9)
    isotropic = LogisticNormal(torch.zeros(2).double(), 0.7 * torch.eye(2).double())
    assert torch.allclose(isotropic.log_prob(w), isotropic.log_prob(w[:, order]), rtol=1e-9)


def test_draws_have_the_moments_of_the_base():
    law = random_law(4)
    w = law.sample((100_000,))
    assert torch.allclose(w.sum(-1), torch.ones(100_000).double())
    u = w.log() @ contrast_basis(4, w)
    assert_within(u.mean(0), law.loc, u.std(0) / 100_000**0.5, 4.5)
    products = torch.einsum("si,sj->sij", u - law.loc, u - law.loc)
    covariance = law.scale_tril @ law.scale_tril.T
    assert_within(products.mean(0), covariance, products.std(0) / 100_000**0.5, 4.5)


def test_mean_and_covariance_of_w_by_draws():
    law = random_law(4, (2,))
    w = law.sample((200_000,))
    moments = weight_moments(law)
    assert_within(moments.mean, w.mean(0), w.std(0) / 200_000**0.5 + 2e-4, 4.5)
    assert torch.equal(moments.mean, law.mean)
    centred = w - w.mean(0)
    products = torch.einsum("spk,spl->spkl", centred, centred)
    error = products.std(0) / 200_000**0.5
    assert_within(moments.covariance, products.mean(0), error + 2e-4, 4.5)
    assert moments.covariance.sum(-1).abs().max() < 1e-12


def test_expected_normaliser_by_draws():
    law = random_law(4, (3,))
    log_w = law.sample((400_000,)).log().mean(-1)
    error = log_w.std(0) / 400_000**0.5 + 2e-4
    assert_within(-law.expected_normaliser(), log_w.mean(0), error, 4.5)


def test_draws_and_nodes_carry_the_gradient():
    law = random_law(3)
    target = torch.tensor([0.3, -1.0, 2.0]).double()

    def value(loc, factor, draw):
        torch.manual_seed(4)
        made = LogisticNormal(loc, factor.tril(), validate_args=False)
        w = made.rsample((20,)) if draw else made.nodes(32)
        return (w @ target).sum() + made.expected_normaliser()

    inputs = (law.loc.clone().requires_grad_(), law.scale_tril.clone().requires_grad_())
    for draw in (True, False):
        assert torch.autograd.gradcheck(lambda *x, d=draw: value(*x, d), inputs, atol=1e-6)


def test_expanding_repeats_the_law():
    law = random_law(3, (4,))
    wide = law.expand((5, 4))
    assert wide.batch_shape == (5, 4)
    assert wide.event_shape == (3,)
    w = wide.sample()
    assert w.shape == (5, 4, 3)
    assert torch.equal(wide.log_prob(w), torch.stack([law.log_prob(row) for row in w]))
    assert LogisticNormal(torch.zeros(2), torch.eye(2).expand(6, 2, 2)).batch_shape == (6,)


def test_float32_agrees_with_float64():
    double, single = random_law(4, (6,)), random_law(4, (6,), dtype=torch.float32)
    w = double.sample((20,))
    value = single.log_prob(torch.softmax(w.log().float(), -1))
    assert value.dtype == single.sample().dtype == single.mean.dtype == torch.float32
    assert torch.allclose(double.log_prob(w).float(), value, rtol=1e-4, atol=1e-4)
    assert torch.allclose(double.mean.float(), single.mean, atol=1e-5)
    # Far in a corner the least weight underflows; the density stays a number.
    corner = LogisticNormal(torch.full((3,), 80.0), torch.eye(3))
    assert corner.log_prob(corner.sample((10,))).isfinite().all()


def test_points_off_the_simplex_are_refused():
    with pytest.raises(ValueError, match="support"):
        random_law(3).log_prob(torch.tensor([0.5, 0.6, 0.2]).double())

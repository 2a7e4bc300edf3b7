import pytest
import torch
from scipy.integrate import quad
from scipy.special import log_expit
from scipy.stats import norm
from torch.autograd import gradcheck

from vrm_pyro.models.likelihoods import expect_normal, hermite_nodes, root
from vrm_pyro.models.likelihoods.quadrature import expect_log_sigmoid, expect_sigmoid


def test_weights_sum_to_one_and_moments_are_normal():
    nodes, weights = hermite_nodes(torch.zeros(()).double())
    moments = [(weights * nodes**power).sum().item() for power in range(7)]
    assert moments == pytest.approx([1, 0, 1, 0, 3, 0, 15], abs=1e-10)
    assert (nodes.flip(0) + nodes).abs().max() < 1e-14  # symmetric: swapping is exact


def test_nodes_follow_dtype():
    nodes, weights = hermite_nodes(torch.zeros((), dtype=torch.float32))
    assert nodes.dtype == weights.dtype == torch.float32


def test_polynomials_are_exact():
    loc, variance = torch.tensor([[0.5, -2.0]]).double(), torch.tensor([[2.0, 0.3]]).double()
    value = expect_normal(lambda x: x**4, loc, variance)
    assert value.shape == (1, 2)
    exact = loc**4 + 6 * loc**2 * variance + 3 * variance**2
    assert torch.allclose(value, exact, rtol=1e-12)


@pytest.mark.parametrize(
    ("variance", "tolerance"), [(0.0, 1e-12), (1.0, 1e-9), (4.0, 1e-7), (64.0, 1e-2)]
)
def test_expected_log_sigmoid(variance, tolerance):
    """Errors as stated in spec 2.6: 3e-8 up to a variance of 4, 6e-3 at 64."""
    for mean in (-6.0, -1.0, 0.0, 2.5, 6.0):
        sd = variance**0.5
        exact = quad(
            lambda x, mean=mean, sd=sd: log_expit(mean + sd * x) * norm.pdf(x),
            -12, 12, epsabs=1e-13, limit=200, points=[-mean / sd if sd else 0.0],
        )[0]  # fmt: skip
        loc = torch.tensor(mean).double()
        value = expect_normal(torch.nn.functional.logsigmoid, loc, torch.tensor(variance).double())
        assert value.item() == pytest.approx(exact, abs=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_root_has_a_finite_gradient_at_zero(dtype):
    variance = torch.tensor([0.0, 1e-30, 4.0], dtype=dtype, requires_grad=True)
    root(variance).sum().backward()
    assert variance.grad.isfinite().all()
    assert root(variance)[2] == 2
    assert variance.grad[2] == 0.25


def by_grid(function, loc, sd):
    """Return E function(x) for x ~ N(loc, sd^2) on a grid that is fine for any width."""
    z = torch.linspace(-10, 10, 20_001, dtype=torch.float64)
    mass = torch.exp(-(z**2) / 2)
    return function(loc.unsqueeze(-1) + sd * z) @ (mass / mass.sum())


@pytest.mark.parametrize("sd", [1e-6, 0.5, 2.0, 8.0, 20.0])
def test_closed_forms_hold_for_any_spread(sd):
    loc = torch.tensor([-40.0, -12.0, -3.0, 0.0, 0.7, 5.0, 25.0]).double()
    variance = torch.full_like(loc, sd**2)
    log = by_grid(torch.nn.functional.logsigmoid, loc, sd)
    assert (expect_log_sigmoid(loc, variance) - log).abs().max() < 1e-7
    chance, found = by_grid(torch.sigmoid, loc, sd), expect_sigmoid(loc, variance)
    assert (found - chance).abs().max() < 3e-7
    assert torch.allclose(found + expect_sigmoid(-loc, variance), torch.ones_like(loc))
    # Small probabilities are right to some digits too.
    assert ((found / chance - 1).abs() < 1e-5)[loc > -17].all()


def test_slopes_of_closed_forms():
    loc = torch.tensor([-6.0, 0.0, 2.0]).double().requires_grad_()
    variance = torch.tensor([[0.0], [3.0], [100.0]]).double().requires_grad_()
    assert gradcheck(expect_log_sigmoid, (loc, variance + 1e-3))
    assert gradcheck(expect_sigmoid, (loc, variance + 1e-3))
    infinite = torch.tensor([torch.inf, 1.0], requires_grad=True)
    value = expect_log_sigmoid(infinite, torch.ones(2))
    assert value[0] == 0
    value.sum().backward()
    assert infinite.grad.isfinite().all()

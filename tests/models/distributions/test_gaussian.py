"""Gaussian distributions of features: the diagonal case is the full one with a diagonal factor."""

import pyro.distributions as dist
import pytest
import torch

from vrm_pyro.models.distributions import Gaussian, as_gaussian, is_gaussian

GENERATOR = torch.Generator().manual_seed(11)
LOC, LOG_SCALE = torch.randn(2, 6, 3, generator=GENERATOR).double()
SCALE = LOG_SCALE.exp()
LOADING = torch.randn(4, 3, generator=GENERATOR).double()
DIRECTION = torch.randn(5, 6, 3, generator=GENERATOR).double()
FACTOR = torch.diag_embed(SCALE) + torch.randn(6, 3, 3, generator=GENERATOR).double().tril(-1)
DIAGONAL, SAME, FULL = (Gaussian(LOC, scale) for scale in (SCALE, torch.diag_embed(SCALE), FACTOR))


def test_diagonal_is_full_with_a_diagonal_factor():
    assert DIAGONAL.diagonal
    assert not SAME.diagonal
    for read in (
        lambda g: g.variance,
        lambda g: g.covariance,
        lambda g: g.projected_variance(DIRECTION),
        lambda g: g.mapped_variance(LOADING),
        lambda g: g.factor(LOADING),
        lambda g: g.natural()[0],
        lambda g: g.natural()[1],
        lambda g: g.rows(torch.tensor([4, 1])).covariance,
        lambda g: g.distribution().log_prob(DIRECTION),
        lambda g: g.distribution().mean,
    ):
        assert torch.allclose(read(DIAGONAL), read(SAME), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("law", [DIAGONAL, FULL])
def test_algebra_against_dense_matrices(law):
    dense = law.covariance
    assert torch.allclose(law.variance, dense.diagonal(dim1=-2, dim2=-1))
    projected = torch.einsum("srd,rde,sre->sr", DIRECTION, dense, DIRECTION)
    assert torch.allclose(law.projected_variance(DIRECTION), projected)
    mapped = LOADING @ dense @ LOADING.T
    assert torch.allclose(law.mapped_variance(LOADING), mapped.diagonal(dim1=-2, dim2=-1))
    factor = law.factor(LOADING)
    assert torch.allclose(factor @ factor.mT, mapped)
    natural, precision = law.natural()
    assert torch.allclose(precision @ dense, torch.eye(3).double().expand(6, 3, 3), atol=1e-9)
    assert torch.allclose(torch.linalg.solve(precision, natural.unsqueeze(-1)).squeeze(-1), LOC)
    known = torch.distributions.MultivariateNormal(LOC, dense)
    assert torch.allclose(law.distribution().log_prob(DIRECTION), known.log_prob(DIRECTION))


@pytest.mark.parametrize("law", [DIAGONAL, FULL])
def test_a_distribution_and_back(law):
    assert is_gaussian(law.distribution())
    back = as_gaussian(law.distribution())
    assert torch.equal(back.loc, law.loc)
    assert torch.equal(back.scale, law.scale)


def test_a_point_has_no_spread():
    point = dist.Delta(LOC, event_dim=1)
    assert is_gaussian(point)
    assert torch.equal(as_gaussian(point).covariance, torch.zeros(6, 3, 3).double())


@pytest.mark.parametrize(
    "law",
    [
        dist.Laplace(LOC, SCALE).to_event(1),
        dist.StudentT(4.0, LOC, SCALE).to_event(1),
        dist.Dirichlet(SCALE),
        dist.Normal(LOC, SCALE),
    ],
)
def test_what_is_no_gaussian_law_of_rows_is_refused(law):
    assert not is_gaussian(law)
    with pytest.raises(TypeError, match="is not Gaussian"):
        as_gaussian(law)

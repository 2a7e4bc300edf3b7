"""The table of Gamma quantiles against the inverse distribution function."""

import numpy as np
import pytest
import torch
from scipy.special import gammaincinv

from vrm_pyro.models.distributions.gamma_quantiles import log_gamma_quantiles

ALPHA = torch.tensor([0.05, 0.1, 0.37, 1.0, 2.5, 30.0, 1e4, 1e9]).double()
POINTS = (np.arange(40) + 0.5) / 40


def test_it_is_the_inverse_distribution_function():
    found = log_gamma_quantiles(ALPHA, 40)
    exact = np.log(gammaincinv(ALPHA[:, None].numpy(), POINTS))
    assert found.shape == (8, 40)
    assert np.abs(found.numpy() - exact).max() < 2e-5  # at 0.05; 1e-6 from 0.1 on
    assert np.abs(found.numpy() - exact)[1:].max() < 2e-6


def test_beyond_what_floats_hold():
    """At alpha 0.001 a median is e^-692; the log of the power law at 0 says so."""
    found = log_gamma_quantiles(torch.tensor([1e-3]).double(), 1)
    assert found.item() == pytest.approx((np.log(0.5) + 5.77e-4 * -1) / 1e-3, rel=1e-3)
    assert log_gamma_quantiles(torch.tensor([1e-3]), 64).isfinite().all()


def test_slopes_are_those_of_draws_at_a_fixed_probability():
    alpha = ALPHA[1:7].clone().requires_grad_()
    log_gamma = log_gamma_quantiles(alpha, 40)
    target = torch.linspace(-1, 1, 40).double()
    (slope,) = torch.autograd.grad((log_gamma * target).sum(), alpha)
    step = 1e-4 * ALPHA[1:7]
    high, low = (
        torch.from_numpy(np.log(gammaincinv((ALPHA[1:7] + s)[:, None].numpy(), POINTS)))
        for s in (step, -step)
    )
    difference = ((high - low) * target).sum(-1) / (2 * step)
    assert torch.allclose(slope, difference, rtol=1e-3)

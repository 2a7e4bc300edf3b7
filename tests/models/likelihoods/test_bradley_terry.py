import pytest
import torch

from vrm_pyro.models.likelihoods import BradleyTerry

DELTA = torch.tensor([-700.0, -30.0, -2.0, 0.0, 0.5, 25.0, 700.0]).double()


def test_values():
    likelihood = BradleyTerry()
    one, zero = torch.ones(()).double(), torch.zeros(()).double()
    assert likelihood.log_prob(zero, one).item() == pytest.approx(-0.6931471805599453, abs=1e-15)
    assert likelihood.log_prob(2 * one, one).item() == pytest.approx(-0.1269280110429726)
    # Far out nothing is lost to cancellation: log sigmoid(25) is -exp(-25).
    assert likelihood.log_prob(25 * one, one).item() == pytest.approx(-1.3887943864771e-11)
    assert likelihood.log_prob(-700 * one, one).item() == -700.0


def test_gradient_is_label_minus_probability():
    """At a tie too, where formulas by absolute value have none."""
    delta = DELTA.clone().requires_grad_()
    preference = torch.tensor([0.0, 1.0, 0.3, 0.8, 1.0, 0.0, 1.0]).double()
    BradleyTerry().log_prob(delta, preference).sum().backward()
    assert torch.allclose(delta.grad, preference - torch.sigmoid(DELTA), atol=1e-12)

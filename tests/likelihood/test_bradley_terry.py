import pytest
import torch

from vrm_pyro.likelihood import PREFERENCE_LIKELIHOODS, BradleyTerry

DELTA = torch.tensor([-700.0, -30.0, -2.0, 0.0, 0.5, 25.0, 700.0]).double()


@pytest.mark.parametrize("name", sorted(PREFERENCE_LIKELIHOODS))
def test_every_likelihood_is_antisymmetric(name):
    """Exchanging the answers maps Delta to -Delta and c to 1 - c, exactly."""
    likelihood = PREFERENCE_LIKELIHOODS[name]()
    for c in (0.0, 0.3, 1.0):
        preference = torch.full_like(DELTA, c)
        swapped = likelihood.log_prob(-DELTA, 1 - preference)
        assert torch.allclose(likelihood.log_prob(DELTA, preference), swapped, rtol=1e-14)
    total = likelihood.probability(DELTA) + likelihood.probability(-DELTA)
    assert torch.allclose(total, torch.ones_like(DELTA), rtol=1e-14)


@pytest.mark.parametrize("name", sorted(PREFERENCE_LIKELIHOODS))
def test_log_prob_and_probability_agree(name):
    likelihood, delta = PREFERENCE_LIKELIHOODS[name](), DELTA[1:-1]
    ones = torch.ones_like(delta)
    win = likelihood.log_prob(delta, ones).exp()
    assert torch.allclose(win, likelihood.probability(delta), rtol=1e-12)
    assert torch.allclose(win + likelihood.log_prob(delta, 0 * ones).exp(), ones, rtol=1e-14)


def test_values():
    likelihood = BradleyTerry()
    one, zero = torch.ones(()).double(), torch.zeros(()).double()
    assert likelihood.log_prob(zero, one).item() == pytest.approx(-0.6931471805599453, abs=1e-15)
    assert likelihood.log_prob(2 * one, one).item() == pytest.approx(-0.1269280110429726)
    # Far out nothing is lost to cancellation: log sigmoid(25) is -exp(-25).
    assert likelihood.log_prob(25 * one, one).item() == pytest.approx(-1.3887943864771e-11)
    assert likelihood.log_prob(-700 * one, one).item() == -700.0


def test_soft_labels_mix_the_two_outcomes():
    likelihood, ones = BradleyTerry(), torch.ones_like(DELTA)
    soft = likelihood.log_prob(DELTA, 0.3 * ones)
    mixed = 0.3 * likelihood.log_prob(DELTA, ones) + 0.7 * likelihood.log_prob(DELTA, 0 * ones)
    assert torch.allclose(soft, mixed, rtol=1e-12)


def test_gradient_is_label_minus_probability():
    """At a tie too, where formulas by absolute value have none."""
    delta = DELTA.clone().requires_grad_()
    preference = torch.tensor([0.0, 1.0, 0.3, 0.8, 1.0, 0.0, 1.0]).double()
    BradleyTerry().log_prob(delta, preference).sum().backward()
    assert torch.allclose(delta.grad, preference - torch.sigmoid(DELTA), atol=1e-12)

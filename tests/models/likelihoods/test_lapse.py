import math

import pytest
import torch
from scipy.stats import beta
from torch import nn

from vrm_pyro.models.likelihoods import Lapse, Probit


def test_values():
    delta = torch.tensor([0.0, 2.0, 40.0]).double()
    expected = [0.5, 0.1 + 0.8 / (1 + math.exp(-2)), 0.9]
    assert Lapse(0.1, learn=False).probability(delta).tolist() == pytest.approx(expected)
    # However sure the model is, a wrong label costs at most -log eps.
    wrong = Lapse(0.1, learn=False).log_prob(delta, torch.zeros(3).double())
    assert wrong[2].item() == pytest.approx(math.log(0.1))
    assert Probit().probability(delta)[1].item() == pytest.approx(0.9772498680518208)


@pytest.mark.parametrize("likelihood", [Lapse(0.2, learn=False), Lapse(0.2).build()])
def test_without_lapse_is_the_expected_sigmoid_whatever_the_law_of_delta(likelihood):
    delta = 3 * torch.randn(7, 1000).double()
    with torch.no_grad():
        found = likelihood.without_lapse(likelihood.probability(delta).mean(-1))
    assert torch.allclose(found, torch.sigmoid(delta).mean(-1), atol=1e-6)
    assert likelihood.lapses
    assert not Probit().lapses
    assert Probit().without_lapse(delta) is delta


def test_module_starts_at_its_rate_and_agrees_with_the_fixed_one():
    module = Lapse(0.12).build()
    assert isinstance(module, nn.Module)
    assert module.rate.item() == pytest.approx(0.12, rel=1e-6)
    delta, label = torch.randn(9), torch.rand(9)
    fixed = Lapse(0.12, learn=False).build()
    assert torch.allclose(module.log_prob(delta, label), fixed.log_prob(delta, label))
    assert Lapse(0.12, learn=False).build().log_prior() == 0.0


def test_held_fixed_it_is_the_same_and_takes_no_gradient():
    module = Lapse(0.12).build()
    fixed = module.detach()
    delta = torch.randn(9, requires_grad=True)
    value = fixed.log_prob(delta, torch.ones(9))
    assert torch.equal(value, module.log_prob(delta, torch.ones(9)))
    value.sum().backward()
    assert module.logit.grad is None
    assert fixed.logit.grad is None
    assert delta.grad.abs().min() > 0


def test_prior_is_beta_1_20():
    rates = torch.tensor([0.01, 0.1, 0.3])
    found = torch.stack([Lapse(float(rate)).build().log_prior() for rate in rates]).detach()
    expected = torch.from_numpy(beta(1, 20).logpdf(rates.numpy())).float()
    assert torch.allclose(found - found[0], expected - expected[0], atol=1e-4)


def test_rate_is_recovered_where_differences_are_known_and_large():
    """20,000 labels, eps .2: the maximum of likelihood and prior lies within 4 of its errors."""
    generator = torch.Generator().manual_seed(0)
    delta = 4 * torch.randn(20_000, generator=generator)
    label = (torch.rand(20_000, generator=generator) < torch.sigmoid(delta)).float()
    flipped = torch.rand(20_000, generator=generator) < 0.2
    label = torch.where(flipped, 1 - label, label)
    module = Lapse(0.05).build()
    optimizer = torch.optim.LBFGS(module.parameters(), line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = -(module.log_prob(delta, label).sum() + module.log_prior()) / len(delta)
        value.backward()
        return value

    for _ in range(5):
        optimizer.step(loss)
    # At best the standard error of a known flip indicator.
    assert module.rate.item() == pytest.approx(0.2, abs=4 * (0.2 * 0.8 / 20_000) ** 0.5 * 1.5)


@pytest.mark.parametrize("rate", [0.0, 0.5, -1.0, float("nan")])
def test_rates_out_of_range_are_refused(rate):
    with pytest.raises(ValueError, match="Lapse: rate is"):
        Lapse(rate)

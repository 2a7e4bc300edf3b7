"""Rao-Kupper with the threshold of each pair known: the margin of a row."""

import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from vrm_pyro.models.likelihoods import (
    PREFERENCE_LIKELIHOODS,
    BradleyTerry,
    GaussianDelta,
    Preference,
    RaoKupper,
    expect_normal,
)

DELTA = torch.linspace(-5, 5, 9).double()
MARGIN = torch.tensor([0.0, 0.2, 0.9, 2.5, torch.nan, torch.nan, 0.0, 1.4, 30.0]).double()
NONE = torch.full_like(DELTA, torch.nan)
OUTCOMES = (0.0, 0.5, 1.0)


def known(margin=MARGIN, own=0.7):
    return RaoKupper(own, learn=False).given_margin(margin)


def own_threshold(margin, own):
    return torch.where(margin.isnan(), own, margin)


def test_outcomes_have_the_closed_form():
    t = own_threshold(MARGIN, 0.7)
    win, loss = torch.sigmoid(DELTA - t), torch.sigmoid(-DELTA - t)
    for c, chance in ((1.0, win), (0.0, loss), (0.5, torch.sigmoid(DELTA + t) - win)):
        found = known().log_prob(DELTA, torch.full_like(DELTA, c)).exp()
        assert torch.allclose(found, chance, rtol=1e-10, atol=1e-14)
    assert torch.allclose(known().probability(DELTA), win + 0.5 * (1 - win - loss), rtol=1e-12)


def test_outcomes_sum_to_one_and_swap():
    law = known()
    assert torch.allclose(law.outcome_probabilities(DELTA).sum(-1), torch.ones(9).double())
    for c in (0.0, 0.5, 1.0, 0.3, 0.8):
        label = torch.full_like(DELTA, c)
        found, swapped = law.log_prob(DELTA, label), law.log_prob(-DELTA, 1 - label)
        assert torch.allclose(found, swapped, rtol=1e-14, atol=0)
        assert torch.allclose(law.score(DELTA, label), -law.score(-DELTA, 1 - label))
    assert torch.equal(law.information(DELTA), law.information(-DELTA))
    chances = law.probability(DELTA) + law.probability(-DELTA)
    assert torch.allclose(chances, torch.ones(9).double(), rtol=1e-14)


@pytest.mark.parametrize("built", [RaoKupper(0.7, learn=False), RaoKupper(0.7).build()])
def test_without_a_margin_it_is_the_own_threshold(built):
    law = built.given_margin(NONE)
    for c in (*OUTCOMES, 0.3, 0.9):
        label = torch.full_like(DELTA, c)
        for name in ("log_prob", "score"):
            found, expected = (getattr(x, name)(DELTA, label) for x in (law, built))
            assert torch.allclose(found, expected, rtol=1e-12, atol=1e-15)
    for name in ("probability", "information"):
        found, expected = getattr(law, name)(DELTA), getattr(built, name)(DELTA)
        assert torch.allclose(found, expected, rtol=1e-12)
    assert built.given_margin(None) is built


def test_a_margin_is_a_fixed_threshold():
    label = torch.tensor([0.0, 0.5, 1.0, 0.2]).double().unsqueeze(-1)
    found = known(torch.full_like(DELTA, 1.3)).log_prob(DELTA, label)
    assert torch.allclose(found, RaoKupper(1.3).log_prob(DELTA, label), rtol=1e-12)


def test_gradient_of_a_win_is_that_of_trl():
    """TRL's loss with a margin is -logsigmoid(rewards_chosen - rewards_rejected - margin)."""
    delta = DELTA.clone().requires_grad_()
    margin = MARGIN.nan_to_num(0.4)
    loss = -known(margin).log_prob(delta, torch.ones_like(delta)).sum()
    (found,) = torch.autograd.grad(loss, delta)
    (expected,) = torch.autograd.grad(-logsigmoid(delta - margin).sum(), delta)
    assert torch.allclose(found, expected, rtol=1e-12)


def test_margin_zero_is_bradley_terry_and_leaves_no_chance_to_a_tie():
    law, zero = known(torch.zeros_like(DELTA)), torch.zeros_like(DELTA)
    for c in (0.0, 1.0):
        label = torch.full_like(DELTA, c)
        expected = BradleyTerry().log_prob(DELTA, label)
        assert torch.allclose(law.log_prob(DELTA, label), expected, rtol=1e-12, atol=1e-14)
        assert torch.allclose(law.score(DELTA, label), BradleyTerry().score(DELTA, label))
    assert torch.allclose(law.information(DELTA), BradleyTerry().information(DELTA))
    assert (law.log_prob(DELTA, zero + 0.5) == -torch.inf).all()
    assert (law.outcome_probabilities(DELTA)[:, 1] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_and_agree_with_score(dtype):
    module = RaoKupper(0.7).build()
    for c in OUTCOMES:
        law = module.given_margin(MARGIN.to(dtype))
        delta = torch.tensor([0.0, 60, -60, 700, 2, -700, -3, 1, 0], dtype=dtype)
        label = torch.full_like(delta, c)
        if c == 0.5:
            label[MARGIN == 0] = 1.0  # no tie there
        delta.requires_grad_()
        (slope,) = torch.autograd.grad(law.log_prob(delta, label).sum(), delta, retain_graph=True)
        assert torch.allclose(slope, law.score(delta, label), atol=1e-6)
        module.zero_grad()
        law.log_prob(delta, label).sum().backward()
        assert all(p.grad.isfinite().all() for p in module.parameters())


def test_information_is_the_mean_square_of_the_score():
    law = known()
    chance = law.outcome_probabilities(DELTA)
    score = torch.stack([law.score(DELTA, torch.full_like(DELTA, c)) for c in OUTCOMES], -1)
    assert torch.allclose(law.information(DELTA), (chance * score**2).sum(-1), rtol=1e-10)


def test_only_the_own_threshold_learns():
    module = RaoKupper(0.7).build()
    module.given_margin(MARGIN).log_prob(DELTA, torch.ones_like(DELTA)).sum().backward()
    t = torch.tensor(0.7).double().requires_grad_()
    rest = DELTA[MARGIN.isnan()]
    (slope,) = torch.autograd.grad(logsigmoid(rest - t).sum(), t)
    assert module.log_values.grad.item() == pytest.approx(0.7 * slope.item(), rel=1e-5)


def test_distributions_of_pairs_use_it():
    label = torch.tensor([1.0, 0.5, 0.0, 0.5, 1.0, 0.5, 0.0, 0.3, 1.0]).double()
    law = Preference(DELTA, known())
    assert torch.equal(law.log_prob(label), known().log_prob(DELTA, label))
    scale = torch.linspace(0.1, 2, 9).double()
    gaussian = GaussianDelta(DELTA, scale, RaoKupper(0.7, learn=False), margin=MARGIN)
    for value in (gaussian, gaussian.expand(torch.Size([3, 9]))):
        exact = expect_normal(
            lambda d: known(MARGIN.unsqueeze(-1)).log_prob(d, label.unsqueeze(-1)).exp(),
            DELTA,
            scale**2,
        )
        assert torch.allclose(value.log_prob(label).exp(), exact.expand(value.batch_shape))
    assert torch.allclose(gaussian.probs.sum(-1), torch.ones(9).double())
    drawn = law.sample(torch.Size([2000]))
    assert (drawn[:, MARGIN == 0] != 0.5).all()
    assert (drawn[:, 8] == 0.5).all()


@pytest.mark.parametrize("name", sorted(PREFERENCE_LIKELIHOODS))
def test_other_likelihoods_know_of_no_margin(name):
    built = PREFERENCE_LIKELIHOODS[name]().build()
    assert built.takes_margin == (name == "RaoKupper")
    assert (built.given_margin(MARGIN) is built) == (name != "RaoKupper")
    if isinstance(built, nn.Module):
        assert built.detach().takes_margin == built.takes_margin

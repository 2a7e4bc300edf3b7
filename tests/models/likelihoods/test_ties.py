"""Values of the likelihoods with ties and grades against their formulas (spec 2.4)."""

import math

import pytest
import torch
from scipy.stats import norm

from vrm_pyro.models.likelihoods import BradleyTerry, Davidson, Graded, RaoKupper

DELTA = torch.linspace(-8, 8, 33).double()
LOSS, TIE, WIN = torch.tensor([0.0, 0.5, 1.0]).double()


def test_rao_kupper_is_its_three_probabilities():
    law, t = RaoKupper(0.7), 0.7
    win, loss = torch.sigmoid(DELTA - t), torch.sigmoid(-DELTA - t)
    assert torch.allclose(law.log_prob(DELTA, WIN).exp(), win, rtol=1e-12)
    assert torch.allclose(law.log_prob(DELTA, LOSS).exp(), loss, rtol=1e-12)
    assert torch.allclose(law.log_prob(DELTA, TIE).exp(), 1 - win - loss, rtol=1e-10)
    even = law.log_prob(torch.zeros(()).double(), TIE).exp().item()
    assert even == pytest.approx(math.tanh(t / 2), rel=1e-12)


def test_a_margin_loss_is_the_win_of_rao_kupper():
    margin = -torch.nn.functional.logsigmoid(DELTA - 0.7)
    assert torch.allclose(-RaoKupper(0.7).log_prob(DELTA, WIN), margin, rtol=1e-12)
    # Alone it is no likelihood of two outcomes: win and loss miss the ties.
    total = RaoKupper(0.7).log_prob(DELTA, WIN).exp() + RaoKupper(0.7).log_prob(DELTA, LOSS).exp()
    assert total.max() < 0.9999


def test_davidson_is_its_three_weights():
    law, nu = Davidson(0.6), 0.6
    weights = torch.stack([(-DELTA / 2).exp(), torch.full_like(DELTA, nu), (DELTA / 2).exp()], -1)
    expected = weights / weights.sum(-1, keepdim=True)
    assert torch.allclose(law.outcome_probabilities(DELTA), expected, rtol=1e-12)
    # Among pairs that are no ties it is Bradley-Terry.
    loss, _, win = law.outcome_probabilities(DELTA).unbind(-1)
    assert torch.allclose(win / (win + loss), torch.sigmoid(DELTA), rtol=1e-12)


def test_grades_are_differences_of_sigmoids():
    cases = {
        4: ((1.5,), [-1.5, 0.0, 1.5]),
        5: ((0.4, 1.6), [-2.0, -0.4, 0.4, 2.0]),
        6: ((0.5, 1.0), [-1.5, -0.5, 0.0, 0.5, 1.5]),
        7: ((1.0,), [-3.0, -2.0, -1.0, 1.0, 2.0, 3.0]),
    }
    for levels, (gaps, cuts) in cases.items():
        law = Graded(levels, gaps)
        at_least = torch.sigmoid(DELTA.unsqueeze(-1) - torch.tensor(cuts, dtype=torch.float64))
        ones, zeros = torch.ones_like(DELTA)[:, None], torch.zeros_like(DELTA)[:, None]
        expected = -torch.cat([ones, at_least, zeros], -1).diff(dim=-1)
        assert law.outcomes == tuple(level / (levels - 1) for level in range(levels))
        assert torch.allclose(law.outcome_probabilities(DELTA), expected, rtol=1e-9, atol=1e-15)


def test_three_grades_are_rao_kupper():
    for c in (0.0, 0.2, 0.5, 0.9, 1.0):
        label = torch.tensor(c).double()
        graded, ties = Graded(3, (0.7,)), RaoKupper(0.7)
        assert torch.equal(graded.log_prob(DELTA, label), ties.log_prob(DELTA, label))


@pytest.mark.parametrize("law", [RaoKupper(1e-9), Davidson(1e-9)])
def test_without_ties_it_is_bradley_terry(law):
    for label in (LOSS, WIN):
        plain = BradleyTerry().log_prob(DELTA, label)
        assert torch.allclose(law.log_prob(DELTA, label), plain, atol=1e-8)
    assert torch.allclose(law.probability(DELTA), torch.sigmoid(DELTA), atol=1e-9)


def test_a_narrow_level_keeps_its_digits_far_out():
    """In float32 Delta - t and Delta + t are equal at 500: the width comes from the steps."""
    delta = torch.tensor([500.0], requires_grad=True)
    tie = RaoKupper(1e-3).log_prob(delta, torch.tensor(0.5))
    # P(tie) = sigmoid(t - Delta) - sigmoid(-t - Delta) -> 2 sinh(t) e^{-Delta}.
    assert tie.item() == pytest.approx(math.log(2 * math.sinh(1e-3)) - 500, rel=1e-6)
    tie.sum().backward()
    assert delta.grad.item() == pytest.approx(-1)


@pytest.mark.parametrize("law", [RaoKupper(0.7), Davidson(0.7), Graded(4, (0.7,))])
def test_prior_is_normal_on_the_logarithm(law):
    module = law.build()
    start = module.log_prior().item()
    found = []
    for value in (0.01, 0.5, 3.0):
        with torch.no_grad():
            module.log_values.fill_(math.log(value))
        found.append(module.log_prior().item() - norm(0, 2).logpdf(math.log(value)))
    expected = start - norm(0, 2).logpdf(math.log(0.7))
    assert found == pytest.approx([expected] * 3, rel=1e-5)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_parameters_out_of_range_are_refused(value):
    with pytest.raises(ValueError, match="RaoKupper: threshold is"):
        RaoKupper(value)
    with pytest.raises(ValueError, match="Davidson: nu is"):
        Davidson(value)
    with pytest.raises(ValueError, match="Graded: gaps is"):
        Graded(5, (1.0, value))


def test_grades_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="7 levels need 3"):
        Graded(7, (1.0, 2.0))
    with pytest.raises(ValueError, match="levels is 2"):
        Graded(2)
    assert Graded(7, [2.0]).steps == (2.0, 2.0, 2.0)

import itertools

import pytest
import torch
from helpers.problems import assert_within

from vrm_pyro.models.likelihoods import BradleyTerry, Ranking


def rankings(size):
    return torch.tensor(list(itertools.permutations(range(size))))


def rewards(*shape):
    return 1.5 * torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("size", [3, 4])
def test_rankings_are_normalised(size):
    law = Ranking(rewards(7, size))
    total = law.log_prob(rankings(size)[:, None].expand(-1, 7, -1)).exp().sum(0)
    assert law.batch_shape == (7,)
    assert law.event_shape == (size,)
    assert torch.allclose(total, torch.ones(7).double(), rtol=0, atol=1e-12)


def test_a_ranking_by_hand():
    r = torch.tensor([0.3, -1.0, 2.0]).double()
    e = r.exp()
    expected = e[2] / e.sum() * e[0] / (e[0] + e[1])
    found = Ranking(r).log_prob(torch.tensor([2, 0, 1])).exp()
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_of_two_it_is_bradley_terry():
    r = torch.cat([rewards(20, 2), torch.tensor([[700.0, -700.0]]).double()])
    delta = r[:, 0] - r[:, 1]
    for first, label in ((0, 1.0), (1, 0.0)):
        value = torch.tensor([first, 1 - first]).expand(21, 2)
        expected = BradleyTerry().log_prob(delta, torch.tensor(label).double())
        assert torch.allclose(Ranking(r).log_prob(value), expected, rtol=1e-12, atol=1e-12)


def test_restricted_to_two_items_it_is_bradley_terry():
    r, order = rewards(5), rankings(5)
    chance = Ranking(r).log_prob(order).exp()
    place = order.argsort(-1)
    for a, b in itertools.combinations(range(5), 2):
        before = chance[place[:, a] < place[:, b]].sum()
        assert before.item() == pytest.approx(torch.sigmoid(r[a] - r[b]).item(), abs=1e-12)


def test_gradient_agrees_with_finite_differences():
    mask = torch.tensor([[True] * 4, [True, False, True, True]])
    order = torch.tensor([[2, 0, 3, 1], [3, 0, 2, 1]])
    assert torch.autograd.gradcheck(
        lambda r: Ranking(r, mask).log_prob(order), rewards(2, 4).requires_grad_()
    )


def test_draws_come_with_their_probabilities():
    r, num_draws = rewards(2, 3), 30_000
    mask = torch.tensor([[True, True, True], [True, False, True]])
    law = Ranking(r, mask)
    drawn = law.sample(torch.Size([num_draws]))
    assert drawn.shape == (num_draws, 2, 3)
    for row, orders in ((0, rankings(3)), (1, torch.tensor([[0, 2, 1], [2, 0, 1]]))):
        chance = Ranking(r[row], mask[row]).log_prob(orders).exp()
        seen = (drawn[:, row, None] == orders).all(-1).double().mean(0)
        assert seen.sum() == 1
        assert_within(seen, chance, (chance * (1 - chance) / num_draws).sqrt(), 4.5)
    again = law.expand(torch.Size([4, 2]))
    assert again.sample().shape == (4, 2, 3)
    assert again.log_prob(drawn[:4]).shape == (4, 2)


def test_padding_changes_nothing():
    r = rewards(6, 3)
    order = rankings(3)
    wide = torch.full((6, 5), float("nan")).double()
    wide[:, [0, 2, 4]] = r
    wide.requires_grad_()
    mask = torch.tensor([True, False, True, False, True])
    places = torch.tensor([0, 2, 4])[order]
    exact = Ranking(r).log_prob(order)
    for filler in (-1, 1, 99):
        padded = torch.cat([places, torch.full((6, 2), filler)], -1)
        found = Ranking(wide, mask).log_prob(padded)
        assert torch.allclose(found, exact, rtol=1e-14)
    (gradient,) = torch.autograd.grad(found.sum(), wide)
    assert (gradient[:, [1, 3]] == 0).all()
    narrow = r.clone().requires_grad_()
    (expected,) = torch.autograd.grad(Ranking(narrow).log_prob(order).sum(), narrow)
    assert torch.allclose(gradient[:, [0, 2, 4]], expected, rtol=1e-12)


def test_nothing_to_rank_says_nothing():
    mask = torch.tensor([[False, True, False], [False, False, False]])
    law = Ranking(rewards(2, 3).requires_grad_(), mask)
    value = law.log_prob(torch.tensor([[1, 0, 0], [0, 0, 0]]))
    assert value.tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_overflows_far_out(dtype):
    r = torch.tensor([1e4, -1e4, 0.0, 3e4], dtype=dtype).requires_grad_()
    value = Ranking(r).log_prob(torch.tensor([1, 2, 0, 3]))
    assert value.item() == pytest.approx(-4e4 - 3e4 - 2e4, rel=1e-6)
    value.backward()
    assert r.grad.isfinite().all()


@pytest.mark.parametrize("value", [[0, 0, 1], [0, 1, 3], [-1, 0, 1], [0, 2, 1]])
def test_what_is_no_ranking_is_refused(value):
    mask = torch.tensor([True, True, value != [0, 2, 1]])
    with pytest.raises(ValueError, match="support"):
        Ranking(rewards(3), mask).log_prob(torch.tensor(value))
    with pytest.raises(ValueError, match="rewards"):
        Ranking(torch.tensor([float("nan"), 1.0]))

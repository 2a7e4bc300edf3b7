"""Ratings in steps."""

import pytest
import torch
from torch.nn.functional import softplus

from vrm_pyro.models.networks import inverse_softplus
from vrm_pyro.models.ratings import BernoulliRatings, OrdinalRatings
from vrm_pyro.models.ratings.ordinal import OrdinalValues


def test_cumulative_probabilities_are_sigmoids():
    """P(y <= level l) = sigmoid(cutpoint_l - s) (spec 2.5 i)."""
    cutpoints = torch.tensor([[-1.0, 0.2, 2.0], [-0.5, 0.0, 0.1]]).double()
    scores = torch.randn(9, 2).double()
    mass = OrdinalValues(cutpoints, 1.0).level_log_probs(scores).exp()
    cumulative = torch.sigmoid(cutpoints - scores.unsqueeze(-1))
    assert torch.allclose(mass.cumsum(-1)[..., :-1], cumulative)


def test_every_level_is_equally_likely_at_the_start():
    mass = OrdinalRatings(levels=7).build(2)().level_log_probs(torch.zeros(1, 2)).exp()
    assert torch.allclose(mass, torch.full((1, 2, 7), 1 / 7), atol=1e-5)


def test_cutpoints_stay_apart_and_in_order():
    module = OrdinalRatings(levels=4).build(2)
    with torch.no_grad():
        module.raw_gaps.fill_(-100.0)
    values = module()
    assert (values.cutpoints.diff(dim=-1) > 0).all()
    assert values.level_log_probs(torch.tensor([[0.0, 30.0]])).isfinite().all()


def test_two_levels_are_a_bernoulli():
    """sigmoid(s - c) with one cutpoint is sigmoid(s + o) with o = -c."""
    ordinal, bernoulli = OrdinalRatings(levels=2).build(3), BernoulliRatings().build(3)
    cutpoint = torch.tensor([0.3, -1.0, 0.0])
    with torch.no_grad():
        ordinal.first.copy_(cutpoint[:, None])
        bernoulli.offset.copy_(-cutpoint)
    scores, ratings = torch.randn(8, 3), torch.rand(8, 3)
    one, two = ordinal(), bernoulli()
    for read in ("log_prob", "slope"):
        assert torch.allclose(
            getattr(one, read)(scores, ratings), getattr(two, read)(scores, ratings), atol=1e-5
        )
    for read in ("mean", "information"):
        assert torch.allclose(getattr(one, read)(scores), getattr(two, read)(scores), atol=1e-5)


def test_a_rating_between_two_levels_counts_for_both():
    values = OrdinalRatings(levels=5).build(1)()
    score = torch.tensor([[0.4]])
    levels = values.level_log_probs(score)[0, 0]
    between = values.log_prob(score, torch.tensor([[0.6]]))  # position 2.4 of 0 to 4
    assert between.item() == pytest.approx((0.6 * levels[2] + 0.4 * levels[3]).item(), abs=1e-5)
    for outside, end in ((-0.5, 0), (1.7, 4)):
        value = values.log_prob(score, torch.tensor([[outside]]))
        assert value.item() == pytest.approx(levels[end].item())


def test_cutpoints_are_recovered():
    """Maximum likelihood at known scores, within 4 standard errors of the observed information."""
    truth = torch.tensor([[-2.0, -0.6, 0.5, 1.6], [-1.0, -0.8, 1.2, 3.0]]).double()
    num_ratings = 3000
    scores = 1.5 * torch.randn(num_ratings, 2).double()
    ratings = OrdinalValues(truth, 1.0).sample(scores)
    module = OrdinalRatings(levels=5).build(2).double()
    optimiser = torch.optim.LBFGS(module.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = -module().log_prob(scores, ratings).mean()
        value.backward()
        return value

    optimiser.step(loss)
    found = module().cutpoints.detach()

    def total(cutpoints):
        return OrdinalValues(cutpoints.view(2, 4), 1.0).log_prob(scores, ratings).sum()

    information = -torch.autograd.functional.hessian(total, found.flatten())
    error = torch.linalg.inv(information).diagonal().sqrt().view(2, 4)
    assert error.max() < 0.12
    assert ((found - truth).abs() < 4 * error).all()


def test_number_of_levels_has_to_make_sense():
    with pytest.raises(ValueError, match="levels is 1"):
        OrdinalRatings(levels=1)


def test_start_of_the_gaps_is_the_inverse_of_softplus():
    assert softplus(torch.tensor(inverse_softplus(0.7))).item() == pytest.approx(0.7)

import math
from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from helpers import golden

from vrm_pyro.models.ratings import GaussianRatings, GaussianValues

RATINGS = torch.tensor([[0.3, -1.0, 2.0], [1.0, 0.0, 0.5]]).double()
MASK = torch.tensor([[True, False, True], [True, True, False]])
PARAMETERS = GaussianValues(
    torch.tensor([0.1, -0.2, 0.0]).double(), torch.tensor([0.5, 0.8, 1.1]).double(), 0.4
)
SCORES = torch.tensor([[0.0, 1.0, 1.5], [0.7, -0.5, 0.0]]).double()
BATCH = replace(golden.batch(True), ratings=RATINGS, rating_mask=MASK)


def test_given_scores_is_normal_on_the_observed_entries():
    law = PARAMETERS.given_scores(SCORES, BATCH)
    each = dist.Normal(SCORES + PARAMETERS.offset, PARAMETERS.scale).log_prob(RATINGS)
    expected = torch.where(MASK, each, 0.0).sum(-1)
    assert law.event_shape == (3,)
    assert torch.allclose(law.log_prob(RATINGS), expected)


def test_expected_log_prob_by_draws():
    variance = torch.tensor([[0.2, 1.0, 0.05], [0.4, 0.3, 2.0]]).double()
    draws = SCORES + variance.sqrt() * torch.randn(200_000, 2, 3).double()
    values = 0.4 * PARAMETERS.given_scores(draws, BATCH).log_prob(RATINGS)
    exact = PARAMETERS.expected_log_prob(BATCH, SCORES, variance)
    error = values.std(0) / 200_000**0.5
    assert ((values.mean(0) - exact).abs() < 4.5 * error).all()


def test_masked_ratings_never_count():
    other = torch.where(MASK, RATINGS, 1e6)
    variance = torch.ones_like(SCORES)
    before, after = (
        PARAMETERS.expected_log_prob(replace(BATCH, ratings=values), SCORES, variance)
        for values in (RATINGS, other)
    )
    assert torch.equal(before, after)
    assert torch.equal(PARAMETERS.site(BATCH, SCORES)[0] > 0, MASK)


def test_marginal_is_the_dense_normal_of_the_observed_entries():
    factor = torch.randn(2, 3, 2).double()
    law, correction = PARAMETERS.marginal(MASK, SCORES, factor)
    value = law.log_prob(torch.where(MASK, RATINGS, law.loc)) + correction
    for row in range(2):
        seen = MASK[row]
        covariance = factor[row, seen] @ factor[row, seen].T
        covariance += torch.diag(PARAMETERS.scale[seen] ** 2 / 0.4)
        loc = (SCORES[row] + PARAMETERS.offset)[seen]
        dense = torch.distributions.MultivariateNormal(loc, covariance)
        tempering = 0.5 * (0.6 * (2 * math.pi * PARAMETERS.scale[seen] ** 2).log() - math.log(0.4))
        expected = dense.log_prob(RATINGS[row, seen]) + tempering.sum()
        assert value[row].item() == pytest.approx(expected.item(), abs=1e-10)


def test_marginal_without_any_rating_is_nothing():
    law, correction = PARAMETERS.marginal(
        torch.zeros_like(MASK), SCORES, torch.randn(2, 3, 2).double()
    )
    assert torch.allclose(law.log_prob(law.loc), torch.zeros(2).double(), atol=1e-12)
    assert torch.equal(correction, torch.zeros(2).double())


def test_scale_is_learned_or_fixed():
    learned = GaussianRatings(scale=0.5).build(3)
    fixed = GaussianRatings(learn_scale=False).build(3)
    assert {name for name, _ in learned.named_parameters()} == {"scale.log_scale", "offset"}
    assert {name for name, _ in fixed.named_parameters()} == {"offset"}
    assert set(learned.state_dict()) == set(fixed.state_dict())
    assert learned().scale.tolist() == pytest.approx([0.5] * 3)


def test_scale_cannot_pin_a_score():
    module = GaussianRatings().build(2)
    with torch.no_grad():
        module.scale.log_scale.fill_(-50.0)
    assert module().scale.tolist() == pytest.approx([0.01, 0.01])

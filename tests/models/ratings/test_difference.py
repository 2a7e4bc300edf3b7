"""Ratings known up to a level of their prompt."""

import math
from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from helpers.problems import by_prompt, small_batch

from vrm_pyro.models.ratings import DifferenceRatings, SharedLevelValues

SCALE = torch.tensor([0.5, 0.8, 1.1]).double()
VALUES = SharedLevelValues(SCALE, 1.0)


def log_prob(batch, scores, values=VALUES):
    return values.given_scores(scores, batch).log_prob(batch.ratings)


def test_two_responses_give_the_law_of_their_difference():
    """log N(y_a - y_b; s_a - s_b, 2 tau^2), the constant too."""
    batch = small_batch(1)  # two responses
    batch = replace(batch, rating_mask=torch.ones(2, 3, dtype=torch.bool))
    scores = torch.randn(2, 3).double()
    law = dist.Normal(scores[0] - scores[1], 2**0.5 * SCALE)
    exact = law.log_prob(batch.ratings[0] - batch.ratings[1]).sum()
    assert log_prob(batch, scores).sum().item() == pytest.approx(exact.item(), abs=1e-12)


def test_more_responses_give_the_joint_law_of_independent_differences(batch, scores):
    """Differences to the last rated response: covariance tau^2 (I + 1 1')."""
    value = by_prompt(batch, log_prob(batch, scores))
    for prompt in range(batch.num_prompts):
        rows, exact = batch.response_prompt == prompt, 0.0
        for k in range(3):
            seen = rows & batch.rating_mask[:, k]
            count = int(seen.sum())
            if count < 2:
                continue
            y, s = batch.ratings[seen, k], scores[seen, k]
            covariance = SCALE[k] ** 2 * (torch.eye(count - 1) + 1).double()
            law = torch.distributions.MultivariateNormal(s[:-1] - s[-1], covariance)
            exact += law.log_prob(y[:-1] - y[-1]).item()
        assert value[prompt].item() == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize("power", [1.0, 0.3])
def test_a_level_of_a_prompt_and_objective_changes_nothing(batch, scores, power):
    values = replace(VALUES, power=power)
    level = torch.randn(batch.num_prompts, 3).double()[batch.response_prompt]
    shifted = replace(batch, ratings=batch.ratings + level)
    variance = torch.rand_like(scores) + 0.1
    for read in (
        lambda b, s: log_prob(b, s, values),
        lambda b, s: values.expected_log_prob(b, s, variance),
        lambda b, s: values.composite_log_prob(b, s, variance),
    ):
        assert torch.allclose(read(batch, scores), read(shifted, scores), atol=1e-10)
        assert torch.allclose(read(batch, scores), read(batch, scores - level), atol=1e-10)
        assert not torch.allclose(read(batch, scores), read(batch, 2 * scores))


def test_a_lone_rating_says_nothing(batch, scores):
    first = torch.zeros_like(batch.rating_mask)
    for prompt in range(batch.num_prompts):
        first[(batch.response_prompt == prompt).nonzero()[0]] = True
    alone = replace(batch, rating_mask=first)
    variance = torch.ones_like(scores)
    for value in (
        log_prob(alone, scores),
        VALUES.expected_log_prob(alone, scores, variance),
        VALUES.composite_log_prob(alone, scores, variance),
        VALUES.site(alone, scores)[0],
    ):
        assert torch.equal(value, torch.zeros_like(value))


@pytest.mark.parametrize("power", [1.0, 0.4])
def test_composite_is_exact_for_independent_scores(batch, scores, power):
    """Tempered differences to the last rated response, with their scores integrated out."""
    values = replace(VALUES, power=power)
    variance = torch.rand_like(scores) + 0.1
    found = by_prompt(batch, values.composite_log_prob(batch, scores, variance))
    for prompt in range(batch.num_prompts):
        rows, exact = batch.response_prompt == prompt, 0.0
        for k in range(3):
            seen = rows & batch.rating_mask[:, k]
            count = int(seen.sum())
            if count < 2:
                continue
            contrast = torch.cat([torch.eye(count - 1), -torch.ones(count - 1, 1)], 1).double()
            gap = contrast @ (batch.ratings[seen, k] - scores[seen, k])
            noise = SCALE[k] ** 2 * contrast @ contrast.T
            spread = contrast @ variance[seen, k].diag() @ contrast.T
            law = torch.distributions.MultivariateNormal(
                torch.zeros_like(gap), spread + noise / power
            )
            constant = (1 - power) * torch.logdet(2 * math.pi * noise)
            constant = constant - (count - 1) * math.log(power)
            exact += (law.log_prob(gap) + 0.5 * constant).item()
        assert found[prompt].item() == pytest.approx(exact, abs=1e-9)


def test_composite_without_spread_is_the_likelihood(batch, scores):
    composite = VALUES.composite_log_prob(batch, scores, torch.zeros_like(scores))
    assert torch.allclose(composite, log_prob(batch, scores), atol=1e-9)


def test_site_is_the_best_score_with_the_others_held(batch, scores):
    """Precision and target against autograd of the likelihood in one response's scores."""
    precision, target = VALUES.site(batch, scores)
    for row in range(0, batch.num_responses, 3):

        def value(own, row=row):
            moved = scores.clone()
            moved[row] = own
            return log_prob(batch, moved).sum()

        slope = torch.autograd.functional.jacobian(value, scores[row])
        curvature = -torch.autograd.functional.hessian(value, scores[row]).diagonal()
        assert torch.allclose(precision[row], curvature, atol=1e-10)
        assert torch.allclose(precision[row] * (target[row] - scores[row]), slope, atol=1e-9)


def test_scale_is_found_from_the_differences():
    """The best tau of simulated ratings, within 4 standard errors, whatever the levels."""
    truth = torch.tensor([0.4, 0.9]).double()
    batch = small_batch(600, num_objectives=2, single_use=True, seed=4)
    scores = torch.randn(batch.num_responses, 2).double()
    level = 5 * torch.randn(600, 2).double()[batch.response_prompt]
    ratings = scores + level + truth * torch.randn_like(scores)
    batch = replace(batch, ratings=ratings, rating_mask=torch.ones_like(batch.rating_mask))
    module = DifferenceRatings().build(2).double()
    optimiser = torch.optim.LBFGS(module.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = -log_prob(batch, scores, module()).sum()
        value.backward()
        return value

    optimiser.step(loss)
    degrees = 600 * 3
    error = truth / math.sqrt(2 * degrees)
    assert ((module().scale - truth).abs() < 4 * error).all()


def test_scale_has_to_be_positive():
    with pytest.raises(ValueError, match="DifferenceRatings: scale is -1"):
        DifferenceRatings(scale=-1)

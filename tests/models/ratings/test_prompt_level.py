"""Ratings with a random level per prompt, against the multivariate normal they are."""

import math
from dataclasses import replace

import pytest
import torch
from helpers.problems import assert_within, by_prompt, small_batch, small_model
from torch.distributions import MultivariateNormal

from vrm_pyro.models.conjugate import shared_level_update
from vrm_pyro.models.ratings import GaussianRatings, PromptLevelRatings, SharedLevelValues

SCALE = torch.tensor([0.5, 0.8, 1.1]).double()
LEVEL = torch.tensor([0.7, 0.2, 1.5]).double()
OFFSET = torch.tensor([0.3, -0.4, 0.0]).double()
VALUES = SharedLevelValues(SCALE, 1.0, OFFSET, LEVEL)
POWERS = pytest.mark.parametrize("power", [1.0, 0.4])


def laws(batch):
    """Yield prompt, objective, rated rows and the covariance of their ratings given scores."""
    for prompt in range(batch.num_prompts):
        for k in range(3):
            seen = (batch.response_prompt == prompt) & batch.rating_mask[:, k]
            count = int(seen.sum())
            if count:
                shared = LEVEL[k] ** 2 * torch.ones(count, count).double()
                yield prompt, k, seen, SCALE[k] ** 2 * torch.eye(count).double() + shared


def test_likelihood_is_the_joint_law_of_a_prompt_s_ratings(batch, scores):
    exact = torch.zeros(batch.num_prompts).double()
    for prompt, k, seen, covariance in laws(batch):
        law = MultivariateNormal(scores[seen, k] + OFFSET[k], covariance)
        exact[prompt] += law.log_prob(batch.ratings[seen, k])
    found = VALUES.given_scores(scores, batch).log_prob(batch.ratings)
    assert torch.allclose(by_prompt(batch, found), exact, atol=1e-10)


@POWERS
def test_expected_log_prob_adds_the_trace(batch, scores, power):
    values, variance = replace(VALUES, power=power), torch.rand_like(scores) + 0.1
    exact = torch.zeros(batch.num_prompts).double()
    for prompt, k, seen, covariance in laws(batch):
        law = MultivariateNormal(scores[seen, k] + OFFSET[k], covariance)
        trace = (torch.linalg.inv(covariance).diagonal() * variance[seen, k]).sum()
        exact[prompt] += power * (law.log_prob(batch.ratings[seen, k]) - 0.5 * trace)
    found = values.expected_log_prob(batch, scores, variance)
    assert torch.allclose(by_prompt(batch, found), exact, atol=1e-10)


@POWERS
def test_composite_is_exact_for_independent_scores(batch, scores, power):
    values, variance = replace(VALUES, power=power), torch.rand_like(scores) + 0.1
    exact = torch.zeros(batch.num_prompts).double()
    for prompt, k, seen, covariance in laws(batch):
        spread = variance[seen, k].diag() + covariance / power
        law = MultivariateNormal(scores[seen, k] + OFFSET[k], spread)
        constant = (1 - power) * torch.logdet(2 * math.pi * covariance)
        constant = constant - len(spread) * math.log(power)
        exact[prompt] += law.log_prob(batch.ratings[seen, k]) + 0.5 * constant
    found = values.composite_log_prob(batch, scores, variance)
    assert torch.allclose(by_prompt(batch, found), exact, atol=1e-10)


def test_without_a_level_it_is_the_gaussian_likelihood(batch, scores):
    """omega -> 0; its limit for omega -> infinity is that of test_difference.py."""
    values = replace(VALUES, level_scale=torch.full((3,), 1e-9).double())
    module = GaussianRatings().build(3).double()
    gaussian = replace(module(), offset=OFFSET, scale=SCALE)
    variance = torch.rand_like(scores)
    for read in (
        lambda v: v.given_scores(scores, batch).log_prob(batch.ratings),
        lambda v: v.expected_log_prob(batch, scores, variance),
        lambda v: v.site(batch, scores)[0],
        lambda v: torch.where(batch.rating_mask, v.site(batch, scores)[1], 0.0),
    ):
        assert torch.allclose(read(values), read(gaussian), atol=1e-8)


def test_a_wide_level_is_the_law_of_differences_and_a_level(batch, scores):
    wide = 1e4
    values = replace(VALUES, level_scale=torch.full((3,), wide).double())
    free = SharedLevelValues(SCALE, 1.0)
    found = by_prompt(batch, values.given_scores(scores, batch).log_prob(batch.ratings))
    differences = by_prompt(batch, free.given_scores(scores, batch).log_prob(batch.ratings))
    level = torch.zeros(batch.num_prompts).double()
    for prompt, *_ in laws(batch):
        level[prompt] -= 0.5 * math.log(2 * math.pi * wide**2)
    assert torch.allclose(found, differences + level, atol=1e-6)
    for one, two in zip(values.site(batch, scores), free.site(batch, scores), strict=True):
        several = (free.site(batch, scores)[0] > 0) & batch.rating_mask
        assert torch.allclose(one[several], two[several], atol=1e-6)


def test_site_is_the_best_score_with_the_others_held(batch, scores):
    precision, target = VALUES.site(batch, scores)
    for row in range(0, batch.num_responses, 3):

        def value(own, row=row):
            moved = scores.clone()
            moved[row] = own
            return VALUES.given_scores(moved, batch).log_prob(batch.ratings).sum()

        slope = torch.autograd.functional.jacobian(value, scores[row])
        curvature = -torch.autograd.functional.hessian(value, scores[row]).diagonal()
        assert torch.allclose(precision[row], curvature, atol=1e-10)
        assert torch.allclose(precision[row] * (target[row] - scores[row]), slope, atol=1e-9)


@POWERS
@pytest.mark.parametrize("free", [False, True])
def test_update_of_all_responses_is_the_joint_one(power, free):
    """Evidence and law of all z of a prompt, against one dense Gaussian."""
    model, batch = small_model(), small_batch(6)
    model.ratings = PromptLevelRatings().build(3, power).double()
    conditionals = model.conditionals(batch).detach()
    values = SharedLevelValues(SCALE, power) if free else replace(VALUES, power=power)
    conditionals = replace(conditionals, ratings=values)
    found = shared_level_update(batch, conditionals)
    prior, reward = conditionals.gaussian, conditionals.reward
    scores = reward.scores(prior.loc)
    for prompt in range(batch.num_prompts):
        rows = (batch.response_prompt == prompt).nonzero().squeeze(-1)
        places = [(i, k) for k in range(3) for i in rows.tolist() if batch.rating_mask[i, k]]
        contrasts, noise = [], []
        for k in range(3):
            own = [p for p, (_, j) in enumerate(places) if j == k]
            one = torch.eye(len(places)).double()[own]
            count = len(own)
            if free and count > 1:  # differences to the last
                one = one[:-1] - one[-1:]
                noise.append(SCALE[k] ** 2 * (torch.eye(count - 1) + 1).double())
            elif not free and count:
                noise.append(SCALE[k] ** 2 * torch.eye(count).double() + LEVEL[k] ** 2)
            else:
                continue
            contrasts.append(one)
        loading = torch.zeros(len(places), len(rows) * reward.loading.shape[1]).double()
        for place, (i, k) in enumerate(places):
            start = int((rows == i).nonzero()) * reward.loading.shape[1]
            loading[place, start : start + reward.loading.shape[1]] = reward.loading[k]
        contrast, noise = torch.cat(contrasts), torch.block_diag(*noise)
        loading = contrast @ loading
        mean = torch.stack([values.mean(scores)[i, k] for i, k in places])
        gap = contrast @ (torch.stack([batch.ratings[i, k] for i, k in places]) - mean)
        covariance = torch.block_diag(*prior.covariance[rows])
        spread = loading @ covariance @ loading.T + noise / power
        evidence = MultivariateNormal(torch.zeros_like(gap), spread).log_prob(gap)
        evidence = evidence + 0.5 * (1 - power) * torch.logdet(2 * math.pi * noise)
        evidence = evidence - 0.5 * len(gap) * math.log(power)
        assert found.log_evidence[prompt].item() == pytest.approx(evidence.item(), abs=1e-8)
        gain = covariance @ loading.T @ torch.linalg.inv(spread)
        loc = prior.loc[rows].flatten() + gain @ gap
        posterior = covariance - gain @ loading @ covariance
        slope = found.slope[rows].flatten(0, 1)
        levels = found.levels
        own = found.loc[rows].flatten() + slope @ levels.mean[prompt]
        assert torch.allclose(own, loc, atol=1e-8)
        shared = slope @ levels.covariance_matrix[prompt] @ slope.T
        own = torch.block_diag(*found.covariance[rows]) + shared
        assert torch.allclose(own, posterior, atol=1e-8)


def test_draws_share_the_level_of_their_prompt(batch, scores):
    drawn = VALUES.given_scores(scores, batch).sample((20_000,)) - scores - OFFSET
    same = batch.response_prompt[:, None] == batch.response_prompt
    for k in range(3):
        covariance = LEVEL[k] ** 2 * same + SCALE[k] ** 2 * torch.eye(len(same))
        variance = covariance.diagonal()
        # Variance of a sample covariance of Gaussians with a known mean.
        error = ((variance[:, None] * variance + covariance**2) / 20_000).sqrt()
        found = drawn[:, :, k].T @ drawn[:, :, k] / 20_000
        assert_within(found, covariance, error, 4.5)
    alone = VALUES.sample(torch.zeros(20_000, 3).double())
    assert_within(
        alone.var(0), SCALE**2 + LEVEL**2, (SCALE**2 + LEVEL**2) * (2 / 20_000) ** 0.5, 4.5
    )


def test_both_scales_are_found():
    """Maximum likelihood of simulated ratings, within 4 standard errors."""
    truth, level = torch.tensor([0.4, 0.9]).double(), torch.tensor([0.8, 0.3]).double()
    batch = small_batch(600, num_objectives=2, single_use=True, seed=4)
    scores = torch.randn(batch.num_responses, 2).double()
    shared = (level * torch.randn(600, 2).double())[batch.response_prompt]
    ratings = scores + shared + truth * torch.randn_like(scores)
    batch = replace(batch, ratings=ratings, rating_mask=torch.ones_like(batch.rating_mask))
    module = PromptLevelRatings().build(2).double()
    optimiser = torch.optim.LBFGS(module.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        law = module().given_scores(scores, batch)
        value = -law.log_prob(batch.ratings).sum()
        value.backward()
        return value

    optimiser.step(loss)
    count = batch.num_responses / 600
    assert ((module().scale - truth).abs() < 4 * truth / math.sqrt(2 * 600 * (count - 1))).all()
    # The variance of a prompt's mean is omega^2 + tau^2 / R.
    total = level**2 + truth**2 / count
    error = total / math.sqrt(2 * 600) / level
    assert ((module().level_scale - level).abs() < 4 * error).all()


def test_scales_have_to_be_positive():
    with pytest.raises(ValueError, match="PromptLevelRatings: level_scale is 0"):
        PromptLevelRatings(level_scale=0)

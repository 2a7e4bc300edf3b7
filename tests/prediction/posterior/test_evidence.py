import math

import pytest
import torch
from helpers import golden, problems
from pyro import poutine

from vrm_pyro import names
from vrm_pyro.models.ratings import DifferenceRatings, PromptLevelRatings
from vrm_pyro.prediction.posterior.evidence import log_evidence
from vrm_pyro.prediction.posterior.refine import FixedGuide


def brute_force(model, batch, num_draws=400_000, chunk=20_000):
    """Plain Monte Carlo over the program's own prior: likelihood averaged per prompt."""
    conditionals = model.conditionals(batch)
    parts = []
    for _ in range(num_draws // chunk):
        w = conditionals.weights.sample((chunk,))
        z = conditionals.features.sample((chunk,))
        scores = conditionals.reward.scores(z)
        delta = conditionals.reward.delta(
            w[:, batch.pair_prompt], scores[:, batch.pair_first], scores[:, batch.pair_second]
        )
        pair = batch.pair_weight * conditionals.likelihood.log_prob(delta, batch.preference)
        log_lik = w.new_zeros(chunk, batch.num_prompts).index_add(1, batch.pair_prompt, pair)
        if conditionals.ratings is not None:
            law = conditionals.ratings.given_scores(scores, batch)
            log_lik = log_lik.index_add(
                1, batch.response_prompt, conditionals.ratings.power * law.log_prob(batch.ratings)
            )
        parts.append(log_lik)
    log_lik = torch.cat(parts)
    mean = torch.logsumexp(log_lik, 0) - math.log(len(log_lik))
    return mean, (log_lik - mean).exp().std(0) / len(log_lik) ** 0.5


@pytest.mark.parametrize("ratings", [False, True])
def test_golden_evidence_is_exact(ratings):
    model = problems.with_guide(
        problems.small_model(num_objectives=2), FixedGuide(*golden.guide(ratings))
    )
    found = log_evidence(model, golden.batch(ratings), golden.conditionals())
    exact = golden.EVIDENCE_JOINT if ratings else golden.EVIDENCE
    # Only w is drawn, and quasi-randomly: far closer than the standard error promises.
    assert abs(found.log_prob.item() - exact) < 1e-3
    assert 1e-3 < found.standard_error.item() < 0.01


@pytest.mark.parametrize("single_use", [False, True])
@pytest.mark.parametrize(
    ("mode", "ratings"),
    [
        ("conditional", None), ("vib", None),
        ("conditional", PromptLevelRatings(1.0, 0.7)), ("conditional", DifferenceRatings(1.0)),
    ],
)  # fmt: skip
def test_agrees_with_plain_monte_carlo(mode, ratings, single_use):
    batch = problems.small_batch(4, single_use=single_use)
    batch = type(batch)(**{**batch.as_dict(), "ratings": 0.5 * batch.ratings})
    model = problems.small_model(mode, power=0.5)
    if ratings is not None:
        model.ratings = ratings.build(3, 0.5).double()
    with torch.no_grad():
        batch = model.standardize(batch)
        found = log_evidence(model, batch, model.conditionals(batch), num_draws=1024)
        exact, error = brute_force(model, batch, num_draws=200_000)
    problems.assert_within(found.log_prob, exact, (found.standard_error**2 + error**2).sqrt(), 4.5)
    assert (found.standard_error < 0.1).all()


def test_standard_error_is_the_spread_over_seeds():
    batch = problems.small_batch(5)
    model = problems.small_model()
    with torch.no_grad():
        batch = model.standardize(batch)
        conditionals = model.conditionals(batch)
        runs = [log_evidence(model, batch, conditionals, 64, seed) for seed in range(60)]
    spread = torch.stack([run.log_prob for run in runs]).std(0)
    claimed = torch.stack([run.standard_error for run in runs]).mean(0)
    # The claim counts quasi-random w as random, so it is high; a formula off by sqrt(draws) = 8
    # would still fail one way or the other.
    shared = torch.bincount(batch.response_prompt) > 2
    assert (spread[shared] < 1.4 * claimed[shared]).all()
    assert (spread[shared] > 0.2 * claimed[shared]).all()
    # Nothing but quasi-random w is drawn where no response is shared.
    assert (spread[~shared] < 1e-12).all()


def test_without_pairs_it_is_the_rating_evidence_and_without_ratings_zero():
    batch = problems.small_batch(3)
    values = batch.as_dict()
    for name in ("pair_first", "pair_second", "preference", "pair_weight"):
        values[name] = values[name][:0]
    rated = type(batch)(**values)
    model = problems.small_model()
    with torch.no_grad():
        conditionals = model.conditionals(rated)
        found = log_evidence(model, rated, conditionals)
        exact, error = brute_force(model, rated, 100_000)
        problems.assert_within(found.log_prob, exact, error, 4.5)
        assert (found.standard_error == 0).all()
        values["rating_mask"] = torch.zeros_like(rated.rating_mask)
        assert (log_evidence(model, type(batch)(**values), conditionals).log_prob == 0).all()


def test_leaves_the_random_state_alone():
    batch = problems.small_batch(3)
    model = problems.small_model()
    state = torch.get_rng_state()
    log_evidence(model, batch, model.conditionals(batch), 64)
    assert torch.equal(state, torch.get_rng_state())


def test_guide_bound_stays_below():
    batch = problems.small_batch(4)
    model = problems.small_model()
    with torch.no_grad():
        batch = model.standardize(batch)
        conditionals = model.conditionals(batch)
        found = log_evidence(model, batch, conditionals, 1024)
        total = []
        for _ in range(200):
            guide = poutine.trace(model.guide).get_trace(batch, conditionals)
            trace = poutine.trace(poutine.replay(model.program, trace=guide)).get_trace(
                batch, conditionals
            )
            total.append(trace.log_prob_sum() - guide.log_prob_sum())
    assert names.WEIGHTS in guide.nodes
    elbo = torch.stack(total)
    error = elbo.std() / len(elbo) ** 0.5
    assert elbo.mean() < found.log_prob.sum() + 4 * error

"""Explanations of small models against closed forms, quadrature and the models themselves."""

from dataclasses import replace

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from helpers.problems import Arrays, small_batch, small_model
from scipy import stats

from vrm_pyro.errors import InputError
from vrm_pyro.models.distributions import as_gaussian, weight_nodes
from vrm_pyro.models.epistemic.base import head_parameters
from vrm_pyro.models.epistemic.diagonal import DiagonalPosterior
from vrm_pyro.models.reward import delta_given_weights
from vrm_pyro.prediction.contributions import contributions
from vrm_pyro.prediction.explanation import decide
from vrm_pyro.prediction.explanation.rendering import Names, as_json, table
from vrm_pyro.prediction.reward_draws import latent_draws, predictive_draws

NUM_DRAWS = 8000


def one_prompt(num_responses=4, seed=0):
    """Raw states of one prompt with some responses, and no pair."""
    batch = small_batch(num_prompts=3, seed=seed)  # 2, 3 and 4 responses
    prompt = {2: 0, 3: 1, 4: 2}[num_responses]
    rows = batch.response_prompt == prompt
    return replace(
        batch,
        prompts=batch.prompts[[prompt]],
        responses=batch.responses[rows],
        response_prompt=torch.zeros(num_responses, dtype=torch.long),
        pair_first=torch.zeros(0, dtype=torch.long),
        pair_second=torch.zeros(0, dtype=torch.long),
        preference=batch.preference[:0],
        pair_weight=batch.pair_weight[:0],
        ratings=batch.ratings[rows],
        rating_mask=batch.rating_mask[rows],
    )


def model_of(kind):
    model = small_model(ratings=kind == "rated", dtype=torch.float32)
    if kind == "rated":
        model.rating_loc.fill_(3.0)
        model.rating_scale.fill_(0.5)
    if kind == "head":
        networks = {"weight_prior": model.weight_prior, "feature_prior": model.feature_prior}
        model.parameter_posterior = DiagonalPosterior(
            head_parameters(model.reward, networks), 2.0, 32
        )
    return model.eval()


def decision_of(model, num_responses=4, seed=0, **settings):
    source = Arrays(one_prompt(num_responses, seed))
    return decide(model, source, num_draws=NUM_DRAWS, **settings)


@pytest.mark.parametrize("kind", ["plain", "rated", "head"])
def test_contributions_add_up_to_what_the_model_reports(kind):
    model = model_of(kind)
    batch = small_batch(num_prompts=4, dtype=torch.float32)
    with torch.no_grad():
        parts = contributions(model, batch).parts
        assert torch.allclose(
            parts.sum(-1), model.predict_responses(batch).reward.mean.double(), atol=1e-5
        )
        delta = parts[batch.pair_first].sum(-1) - parts[batch.pair_second].sum(-1)
        assert torch.allclose(delta, model.pair_uncertainty(batch).mean.double(), atol=1e-5)
    found = decision_of(model)
    for pair in found.pairs:
        assert pair.delta >= 0
        assert pair.contributions.mean.sum() == pytest.approx(pair.delta, abs=1e-9)
        expected = found.reward[pair.first] - found.reward[pair.second]
        assert pair.delta == pytest.approx(expected)
        assert (pair.epistemic > 0) == (kind == "head")
    assert (found.contributions.mean[found.order[0]] == 0).all()
    assert (found.weights_epistemic_sd > 0).all() == (kind == "head")


def test_the_shift_of_weights_makes_the_model_itself_call_it_a_tie():
    model = model_of("plain")
    flipped = 0
    for seed in range(4):
        found = decision_of(model, 2, seed)
        if found.shift is None:
            continue
        flipped += 1
        w = torch.tensor(found.shift.weights, dtype=torch.float32)[None]
        other = model_of("plain")
        other.predictive_weights = lambda _, w=w: dist.Delta(w, event_dim=1)
        with torch.no_grad():
            reward = other.predict_responses(one_prompt(2, seed).to(torch.float32)).reward.mean
        assert reward[0].item() == pytest.approx(reward[1].item(), abs=1e-5)
        gap = found.reward[found.order[0]] - found.reward[found.order[1]]
        assert gap > 1e-3  # there was something to flip
    assert flipped >= 2


@pytest.mark.parametrize("kind", ["rated", "plain"])
def test_the_change_of_a_score_closes_the_gap(kind):
    model = model_of(kind)
    found = decision_of(model)
    gap = found.reward[found.order[0]] - found.reward[found.order[1]]
    beta = model.reward().scale.item()
    assert len(found.score_changes) == model.num_objectives
    for item in found.score_changes:
        k = item.objective
        assert beta * found.weights.mean[k] * item.change == pytest.approx(gap, rel=1e-4)
        unit = 0.5 if kind == "rated" else 1.0
        assert item.needed - item.now == pytest.approx(unit * item.change, rel=1e-3)
        assert item.now == pytest.approx(found.scores.mean[found.order[1], k], rel=1e-5)


def test_the_probability_to_be_best_integrates_over_a_shared_w():
    """Two responses: against the expectation over w of the Normal distribution given w."""
    model, batch = model_of("plain"), one_prompt(2).to(torch.float32)
    found = decision_of(model, 2)
    first, second = (torch.tensor([j]) for j in found.order)
    with torch.no_grad():
        nodes = weight_nodes(model.predictive_weights(batch.prompts), 2048)
        law = as_gaussian(model.predictive_features(batch.responses))
        mean, variance = delta_given_weights(
            nodes, law.rows(first), law.rows(second), model.reward()
        )
    exact = torch.special.ndtr(mean / variance.sqrt()).mean().item()
    error = (exact * (1 - exact) / NUM_DRAWS) ** 0.5
    assert abs(found.pairs[0].p_higher - exact) < 4.5 * error
    assert found.p_best[found.order[0]] == pytest.approx(found.pairs[0].p_higher)
    assert found.p_best.sum() == pytest.approx(1)
    assert found.p_best_se[0] == pytest.approx(error, rel=0.05)


def test_a_w_of_its_own_for_each_response_would_give_another_probability():
    """All spread from w and two responses that are nearly equal: what they share cancels."""
    model, states = model_of("plain"), one_prompt(2)
    states = replace(states, responses=states.responses[:1] + torch.tensor([[0.0], [0.05]]))
    plain = model.predictive_features
    model.predictive_features = lambda r: dist.Normal(plain(r).mean, 1e-6).to_event(1)
    found = decide(model, Arrays(states), num_draws=NUM_DRAWS)
    batch = states.to(torch.float32)
    with torch.no_grad():
        nodes = weight_nodes(model.predictive_weights(batch.prompts), 2048)[:, 0]
        scores = model.reward().scores(plain(batch.responses).mean)[list(found.order)]
        rewards = nodes @ scores.T
    shared = (rewards[:, 0] > rewards[:, 1]).double().mean().item()
    apart = (rewards[:, 0] > rewards[:, 1].roll(1000)).double().mean().item()
    assert abs(shared - apart) > 0.1
    assert abs(found.pairs[0].p_higher - shared) < 4.5 * 0.5 / NUM_DRAWS**0.5


def test_intervals_are_those_of_the_laws():
    model, batch = model_of("plain"), one_prompt().to(torch.float32)
    found = decision_of(model, level=0.8)
    alpha = model.predictive_weights(batch.prompts).concentration[0].detach().double().numpy()
    law = stats.beta(alpha, alpha.sum() - alpha)
    for end, probability in ((found.weights.lower, 0.1), (found.weights.upper, 0.9)):
        # Standard error of a sample quantile, in probability.
        assert np.abs(law.cdf(end) - probability).max() < 4.5 * (0.09 / NUM_DRAWS) ** 0.5
    z = stats.norm(found.scores.mean, found.scores.sd)
    assert np.abs(z.cdf(found.scores.lower) - 0.1).max() < 4.5 * (0.09 / NUM_DRAWS) ** 0.5


@pytest.mark.parametrize("kind", ["plain", "head"])
def test_draws_are_those_of_the_rewards(kind):
    model, batch = model_of(kind), one_prompt().to(torch.float32)
    parts = latent_draws(model, batch, 200, torch.Generator().manual_seed(3))
    rewards = predictive_draws(model, batch, 200, torch.Generator().manual_seed(3))
    assert torch.allclose(parts.contributions.sum(-1), rewards, atol=1e-5)
    assert parts.weights.shape == (200, 1, 3)
    assert parts.scores.shape == (200, 4, 3)


def test_a_draw_of_the_head_is_no_independent_draw():
    found = decision_of(model_of("head"))
    p = found.p_best
    assert (found.p_best_se[p > 0.05] > (p * (1 - p) / NUM_DRAWS)[p > 0.05] ** 0.5).all()


def test_standard_error_with_a_head_is_that_of_means_over_its_draws():
    """Of 8 draws at 4 values of the parameters, draws i and i + 4 belong together."""
    model, source = model_of("head"), Arrays(one_prompt())
    model.parameter_posterior.num_draws = 4
    found = decide(model, source, num_draws=8, seed=3)
    batch = one_prompt().to(torch.float32)
    draws = latent_draws(model, batch, 8, torch.Generator().manual_seed(3))
    best = draws.contributions.sum(-1).argmax(-1)
    share = torch.nn.functional.one_hot(best, 4).double()
    by_head = (share[:4] + share[4:]) / 2
    assert found.p_best == pytest.approx(share.mean(0).numpy())
    assert found.p_best_se == pytest.approx(by_head.std(0).numpy() / 2)


def test_responses_that_tie_share_being_the_best():
    model, states = model_of("plain"), one_prompt(2)
    plain = model.predictive_features
    model.predictive_features = lambda r: dist.Normal(plain(r).mean, 1e-30).to_event(1)
    states = replace(states, responses=states.responses[[0, 0]])
    found = decide(model, Arrays(states), num_draws=50)
    assert found.p_best.tolist() == [0.5, 0.5]
    assert found.p_best_se.tolist() == [0, 0]
    assert found.pairs[0].p_higher == 0.5


def test_one_response_is_refused_with_the_reason():
    states = one_prompt(2)
    alone = replace(
        states,
        responses=states.responses[:1],
        response_prompt=states.response_prompt[:1],
        ratings=states.ratings[:1],
        rating_mask=states.rating_mask[:1],
    )
    with pytest.raises(InputError, match="differences within a prompt"):
        decide(model_of("plain"), Arrays(alone))


@pytest.mark.parametrize("kind", ["plain", "rated", "head"])
@pytest.mark.parametrize("num_responses", [2, 4])
def test_words_and_json_say_the_same(kind, num_responses):
    found = decision_of(model_of(kind), num_responses)
    unit = "rating" if kind == "rated" else "model"
    names = Names(
        ("clarity", "depth", "safety"),
        [{"role": "user", "content": "Why?\n" + "so long " * 40}],
        [f"answer {j}\x1b[31m" for j in range(num_responses)],
        ["chosen", "rejected", None, None][:num_responses],
        unit,
    )
    content, text = as_json(found, names), table(found, names)
    assert max(map(len, text.splitlines())) <= 99
    assert "\x1b" not in text
    leader, runner_up = (names.letter(j) for j in found.order[:2])
    assert content["order"][:2] == [leader, runner_up]
    assert content["flip"]["runner_up"] == runner_up
    assert f"{leader} leads" in text
    assert ("epistemic" in text) == (kind == "head")
    assert ("ratings" in text) == (kind == "rated") or "without ratings" in text
    for item in content["flip"]["one_weight"][:3]:
        word = f"unless `{item['objective']}` weighs {item['direction']} than"
        assert word in " ".join(text.split())
    assert [r["name"] for r in content["responses"]] == ["A", "B", "C", "D"][:num_responses]
    pair = content["pairs"][0]
    total = sum(part["mean"] for part in pair["contributions"].values())
    assert total == pytest.approx(pair["delta_mean"])
    assert len(content["pairs"]) == num_responses * (num_responses - 1) // 2

from dataclasses import replace

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from helpers import problems, sources
from torch.nn.functional import logsigmoid

from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.errors import InputError
from vrm_pyro.models.bradley_terry import BradleyTerryModel
from vrm_pyro.models.predictive import preference_probability
from vrm_pyro.prediction.posterior import draw_posterior, draws, weighted_draws


@pytest.fixture
def problem():
    """A trained-size model in float32 and the rows it draws for."""
    model = problems.small_model(power=0.7).float()
    with torch.no_grad():
        model.rating_loc.fill_(3.0)
        model.rating_scale.fill_(0.8)
        model.prompt_scaler.loc.fill_(0.2)
        model.response_scaler.scale.fill_(0.9)
    batch = problems.small_batch(6)
    batch = replace(batch, ratings=3 + 0.8 * batch.ratings)
    return model, sources.source_of(batch)


def standardized(model, source, swapped=None):
    """The whole source as one float64 batch, with the heads on it."""
    model = model.double()
    batch = PromptDataset(source, 3.0, 0.8).batch().to(torch.float64)
    batch = model.standardize(batch)
    return model, batch, model.conditionals(batch)


@torch.no_grad()
def test_moments_of_the_draws_are_those_of_the_guide_and_the_prior(problem):
    model, source = problem
    found = draw_posterior(model, source, 4000).groups
    model, batch, conditionals = standardized(model, source)
    laws = {
        "posterior": model.guide.posterior(batch, conditionals),
        "prior": (conditionals.weights, conditionals.features),
    }
    for group, (weights, features) in laws.items():
        for name, law in (("w", weights), ("z", features)):
            values = torch.from_numpy(found[group][name]).double()
            problems.assert_within(
                values.mean(0), law.mean, (law.variance / len(values)).sqrt(), 4.5
            )
            squares = (values - law.mean) ** 2
            problems.assert_within(
                squares.mean(0), law.variance, squares.std(0) / len(values) ** 0.5, 4.5
            )


def test_scores_and_rewards_follow_from_the_draws(problem):
    model, source = problem
    group = draw_posterior(model, source, 50).groups["posterior"]
    reward = model.reward()
    scores = group["z"] @ reward.loading.detach().numpy().T + reward.intercept.detach().numpy()
    np.testing.assert_allclose(group["s"], scores, rtol=1e-5, atol=1e-5)
    rewards = (group["w"][:, source.response_prompt] * scores).sum(-1) * reward.scale.item()
    np.testing.assert_allclose(group["r"], rewards, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_log_weight_by_hand(problem):
    model, source = problem
    model, batch, conditionals = standardized(model, source)
    w, z, log_probs = weighted_draws(model, batch, conditionals, 7)
    q_w, q_z = model.guide.posterior(batch, conditionals)
    prompt = batch.response_prompt
    for draw in range(7):
        for i in range(batch.num_prompts):
            mine = prompt == i
            scores = z[draw] @ conditionals.reward.loading.T + conditionals.reward.intercept
            total = 0.0
            for n in range(batch.num_pairs):
                a, b = batch.pair_first[n], batch.pair_second[n]
                if prompt[a] != i:
                    continue
                delta = conditionals.reward.scale * (w[draw, i] * (scores[a] - scores[b])).sum()
                c = batch.preference[n]
                log_p = c * logsigmoid(delta) + (1 - c) * logsigmoid(-delta)
                total += batch.pair_weight[n] * log_p
            law = dist.Normal(scores + model.ratings.offset, model.ratings().scale)
            rated = torch.where(batch.rating_mask, law.log_prob(batch.ratings), 0.0)
            assert log_probs["lp_preferences"][draw, i] == pytest.approx(float(total), abs=1e-9)
            rating = 0.7 * rated[mine].sum()
            assert log_probs["lp_ratings"][draw, i] == pytest.approx(rating.item(), abs=1e-9)
            total += rating
            assert log_probs["lp_outcomes"][draw, i] == pytest.approx(total.item(), abs=1e-9)
            p = (
                conditionals.weights.log_prob(w[draw])[i]
                + conditionals.features.log_prob(z[draw])[mine].sum()
            )
            q = q_w.log_prob(w[draw])[i] + q_z.log_prob(z[draw])[mine].sum()
            expected = (total + p - q).item()
            assert log_probs["log_weight"][draw, i] == pytest.approx(expected, abs=1e-9)


def test_log_weights_average_to_elbo_and_evidence(problem):
    model, source = problem
    groups = draw_posterior(model, source, 4000).groups
    stats, log_evidence = groups["sample_stats"], groups["log_likelihood"]["outcomes"]
    log_weight = stats["log_weight"]
    error = log_weight.std(0) / 4000**0.5
    # elbo draws w at 64 quasi-random points, which leaves it about 1e-3 off.
    assert (np.abs(log_weight.mean(0) - stats["elbo"]) < 4.5 * error + 2e-3).all()
    ratio = np.exp(log_weight - log_evidence)
    error = np.sqrt(ratio.var(0) / 4000 + stats["evidence_se"] ** 2)
    assert (np.abs(ratio.mean(0) - 1) < 4.5 * error).all()
    np.testing.assert_allclose(stats["evidence_gap"], log_evidence - stats["elbo"])
    assert (stats["evidence_gap"] > -4 * stats["evidence_se"]).all()
    assert (stats["evidence_gap"] > 0.005).any()


def test_chunks_do_not_change_what_is_computed(problem, monkeypatch):
    model, source = problem
    whole = draw_posterior(model, source, 4).groups
    monkeypatch.setattr(draws, "CHUNK_SIZE", 1)  # every prompt is a chunk
    parts = draw_posterior(model, source, 4).groups
    for name in ("elbo", "kl_weights", "kl_features", "kl_features_guide", "p_first"):
        np.testing.assert_allclose(
            whole["sample_stats"][name], parts["sample_stats"][name], rtol=1e-9, err_msg=name
        )
    for group, variables in whole.items():
        for name, values in variables.items():
            assert values.shape == parts[group][name].shape
            assert np.isfinite(values).any()
            # No row is left as it was allocated.
            if group in ("posterior", "prior"):
                assert (parts[group][name] != 0).all()


def test_files_hold_the_same_draws_as_memory(problem, tmp_path):
    model, source = problem
    memory = draw_posterior(model, source, 5).groups
    stored = draw_posterior(model, source, 5, storage=tmp_path).groups
    assert isinstance(stored["posterior"]["s"], np.memmap)
    for group, variables in memory.items():
        for name, values in variables.items():
            np.testing.assert_array_equal(values, stored[group][name])


def test_seed_fixes_the_draws_and_nothing_else_moves(problem):
    model, source = problem
    model.train()
    state = torch.get_rng_state()
    first = draw_posterior(model, source, 3, seed=1)
    second = draw_posterior(model, source, 3, seed=1)
    other = draw_posterior(model, source, 3, seed=2)
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert next(model.parameters()).dtype == torch.float32
    for group in ("posterior", "prior_predictive"):
        for name, values in first.groups[group].items():
            np.testing.assert_array_equal(values, second.groups[group][name])
    assert (first.groups["posterior"]["z"] != other.groups["posterior"]["z"]).all()


def test_orientation_of_pairs_is_a_coin(problem):
    model, source = problem
    groups = draw_posterior(model, source, 2).groups
    constant, swapped = groups["constant_data"], groups["constant_data"]["swapped"]
    assert swapped.any()
    assert not swapped.all()
    expected = np.where(swapped, source.pair_second, source.pair_first)
    np.testing.assert_array_equal(constant["pair_first"], expected)
    np.testing.assert_array_equal(
        groups["observed_data"]["preference"],
        np.where(swapped, 1 - source.preference, source.preference),
    )
    plain = model.predict_pairs(PromptDataset(source).batch()).detach().numpy()
    np.testing.assert_allclose(
        groups["sample_stats"]["p_first"], np.where(swapped, 1 - plain, plain), atol=1e-5
    )


@pytest.mark.parametrize("group", ["prior", "posterior"])
def test_predicted_outcomes_follow_the_latents(problem, group):
    model, source = problem
    num_draws = 4000
    groups = draw_posterior(model, source, num_draws).groups
    reward = groups[group]["r"].astype(float)
    constant = groups["constant_data"]
    p = 1 / (1 + np.exp(reward[:, constant["pair_second"]] - reward[:, constant["pair_first"]]))
    label = groups[f"{group}_predictive"]["preference"]
    assert set(np.unique(label)) == {0, 1}
    error = np.sqrt((p * (1 - p)).mean(0) / num_draws)
    assert (np.abs(label.mean(0) - p.mean(0)) < 4.5 * error).all()
    offset, tau = model.ratings.offset.detach().numpy(), model.ratings().scale.detach().numpy()
    residual = groups[f"{group}_predictive"]["rating"] - (3 + 0.8 * (groups[group]["s"] + offset))
    assert (np.abs(residual.mean(0)) < 4.5 * 0.8 * tau / num_draws**0.5).all()
    assert residual.std(0) == pytest.approx(np.broadcast_to(0.8 * tau, (18, 3)), rel=0.06)


def test_prior_predictive_is_what_text_alone_predicts(problem):
    model, source = problem
    found = draw_posterior(model, source, 4000)
    assert found.predictive_group == "prior_predictive"
    p = found.groups["sample_stats"]["p_first"]
    share = found.groups["prior_predictive"]["preference"].mean(0)
    assert (np.abs(share - p) < 4.5 * np.sqrt(p * (1 - p) / 4000) + 2e-3).all()


def test_vib_has_the_fixed_prior_and_the_blind_posterior(problem):
    _, source = problem
    model = problems.small_model("vib")
    found = draw_posterior(model, source, 4000)
    assert found.predictive_group == "posterior_predictive"
    prior = found.groups["prior"]
    assert (np.abs(prior["w"].mean(0) - 1 / 3) < 4.5 * prior["w"].std(0) / 4000**0.5).all()
    assert (np.abs(prior["z"].mean(0)) < 4.5 / 4000**0.5).all()
    with torch.no_grad():
        batch = PromptDataset(source).batch().to(torch.float64)
        law = model.predictive_features(batch.responses)
        values = torch.from_numpy(found.groups["posterior"]["z"]).double()
        problems.assert_within(values.mean(0), law.mean, law.stddev / 4000**0.5, 4.5)
        p = preference_probability(
            model.predictive_weights(batch.prompts),
            law,
            (batch.pair_prompt, batch.pair_first, batch.pair_second),
            model.reward(),
            model.likelihood,
        ).numpy()
    swapped = found.groups["constant_data"]["swapped"]
    np.testing.assert_allclose(
        found.groups["sample_stats"]["p_first"], np.where(swapped, 1 - p, p), atol=1e-6
    )


def test_rows_without_pairs_or_ratings(problem):
    model, source = problem
    groups = draw_posterior(model, sources.without_pairs(source), 3).groups
    assert "preference" not in groups["posterior_predictive"]
    assert "pair_first" not in groups["constant_data"]
    assert groups["posterior_predictive"]["rating"].shape == (3, 18, 3)
    unrated = replace(source, ratings=np.zeros((18, 0)), objectives=())
    groups = draw_posterior(model, unrated, 3).groups
    assert "rating" not in groups["observed_data"]
    plain = draw_posterior(problems.small_model(ratings=False), source, 3).groups
    assert "rating" not in plain["posterior_predictive"]
    assert "rating" not in plain["observed_data"]


def test_tiny_weights_keep_a_finite_logarithm(problem):
    model, source = problem
    with torch.no_grad():
        model.weight_prior.network.offset = -30.0  # concentrations at the floor of 0.1
    w = draw_posterior(model, source, 4000).groups["prior"]["w"]
    assert w.min() > 0
    assert w.min() < 1e-30


@pytest.mark.parametrize(
    ("num_draws", "changes", "message"),
    [
        (0, {}, "at least 1"),
        (5, {"objectives": ("a", "b"), "ratings": np.zeros((18, 2))}, "rate 2 objectives"),
    ],
)
def test_refuses_what_makes_no_sense(problem, num_draws, changes, message):
    model, source = problem
    with pytest.raises(InputError, match=message):
        draw_posterior(model, replace(source, **changes), num_draws)


def test_refuses_a_model_without_latents(problem):
    with pytest.raises(InputError, match="no latent variables"):
        draw_posterior(BradleyTerryModel(problems.HIDDEN_SIZE), problem[1], 5)

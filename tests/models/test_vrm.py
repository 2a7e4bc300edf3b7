import warnings
from dataclasses import replace

import pytest
import torch
from helpers.problems import HIDDEN_SIZE, small_batch, small_model
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

from vrm_pyro import names
from vrm_pyro.data.batch import FeatureBatch

MODES = pytest.mark.parametrize("mode", ["conditional", "vib"])
LATENTS = {names.WEIGHTS, names.FEATURES}


def trace_of(program, *arguments, **settings):
    trace = poutine.trace(program).get_trace(*arguments, **settings)
    trace.compute_log_prob()
    return trace


def sampled_sites(trace):
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and type(site["fn"]).__name__ != "_Subsample"
    }


def without_pairs(batch):
    return FeatureBatch(
        **{
            **batch.as_dict(),
            **{name: getattr(batch, name)[:0] for name in ("pair_first", "pair_second")},
            **{name: getattr(batch, name)[:0] for name in ("preference", "pair_weight")},
        }
    )


@MODES
def test_program_has_three_flat_plates(mode):
    model, batch = small_model(mode), small_batch()
    found = sampled_sites(trace_of(model.program, batch, model.conditionals(batch)))
    shapes = {name: site["log_prob"].shape for name, site in found.items()}
    assert shapes == {
        names.WEIGHTS: (batch.num_prompts,),
        names.FEATURES: (batch.num_responses,),
        names.RATING: (batch.num_responses,),
        names.PREFERENCE: (batch.num_pairs,),
    }
    assert {name for name, site in found.items() if not site["is_observed"]} == LATENTS


@MODES
def test_log_joint_is_the_generative_story(mode):
    """Every density by hand, with weights and masks, from the values of one trace."""
    model, batch = small_model(mode, power=0.4), small_batch()
    conditionals = model.conditionals(batch)
    trace = trace_of(model.program, batch, conditionals)
    w, z = trace.nodes[names.WEIGHTS]["value"], trace.nodes[names.FEATURES]["value"]
    total = conditionals.weights.log_prob(w).sum() + conditionals.features.log_prob(z).sum()
    for j in range(batch.num_responses):
        s = conditionals.reward.loading @ z[j] + conditionals.reward.intercept
        for k in range(3):
            if batch.rating_mask[j, k]:
                law = torch.distributions.Normal(
                    s[k] + conditionals.ratings.offset[k], conditionals.ratings.scale[k]
                )
                total = total + 0.4 * law.log_prob(batch.ratings[j, k])
    for n in range(batch.num_pairs):
        a, b = batch.pair_first[n], batch.pair_second[n]
        assert batch.response_prompt[a] == batch.response_prompt[b]
        gap = conditionals.reward.loading @ (z[a] - z[b])
        delta = conditionals.reward.scale * w[batch.response_prompt[a]] @ gap
        c = batch.preference[n]
        log_prob = c * delta.sigmoid().log() + (1 - c) * (-delta).sigmoid().log()
        total = total + batch.pair_weight[n] * log_prob
    assert trace.log_prob_sum().item() == pytest.approx(total.item(), rel=1e-10)


def test_no_observed_rating_means_no_rating_site():
    batch = small_batch()
    for model, data in (
        (small_model(), small_batch(ratings=False)),
        (small_model(ratings=False), batch),
    ):
        trace = trace_of(model.program, data, model.conditionals(data))
        assert names.RATING not in trace.nodes
        collapsed = trace_of(model.collapsed_program, data, model.conditionals(data))
        assert names.RATING not in collapsed.nodes


def test_no_pair_means_no_preference_site():
    model, batch = small_model(), without_pairs(small_batch())
    conditionals = model.conditionals(batch)
    for program in (model.program, model.collapsed_program):
        assert names.PREFERENCE not in trace_of(program, batch, conditionals).nodes


def test_pairs_of_weight_zero_do_not_count():
    model, batch = small_model(), small_batch()
    conditionals = model.conditionals(batch)
    silent = replace(batch, pair_weight=torch.zeros_like(batch.pair_weight))
    trace = trace_of(model.program, silent, conditionals)
    assert trace.nodes[names.PREFERENCE]["log_prob_sum"] == 0
    assert trace.log_prob_sum().isfinite()


def test_program_with_particles_keeps_prompts_apart():
    """Vectorised particles add a dimension on the left; indices pick from the right."""
    model, batch = small_model(), small_batch()
    conditionals = model.conditionals(batch)
    with torch.no_grad():
        vectorised, looped = (
            torch.tensor(
                [
                    elbo.loss(model.program, model.guide, batch, conditionals)
                    for _ in range(repeats)
                ]
            ).double()
            for elbo, repeats in (
                (Trace_ELBO(200, vectorize_particles=True, max_plate_nesting=1), 20),
                (Trace_ELBO(1), 150),
            )
        )
    error = (vectorised.var() / 20 + looped.var() / 150).sqrt()
    assert abs(vectorised.mean() - looped.mean()) < 4 * error


@MODES
def test_pyro_finds_nothing_to_warn_about(mode):
    """Site order, plates and reparametrisation are checked under validation only."""
    model, batch = small_model(mode), small_batch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        elbo = TraceMeanField_ELBO(2, vectorize_particles=True, max_plate_nesting=1)
        elbo.differentiable_loss(
            model.program, model.guide, batch, model.conditionals(batch)
        ).backward()


@pytest.mark.parametrize("power", [1.0, 0.3])
def test_collapsed_program_integrates_the_features(power):
    """For fixed w, its preference density is the average over z given ratings of the program's."""
    model, batch = small_model(power=power), small_batch(3, single_use=True)
    with torch.no_grad():
        conditionals = model.conditionals(batch)
        trace = trace_of(model.collapsed_program, batch, conditionals)
        w = trace.nodes[names.WEIGHTS]["value"]
        z = conditionals.features.sample((100_000,))
        scores = conditionals.reward.scores(z)
        rating = power * conditionals.ratings.given_scores(scores, batch).log_prob(batch.ratings)
        first, second = batch.pair_first, batch.pair_second
        delta = conditionals.reward.delta(
            w[batch.pair_prompt], scores[:, first], scores[:, second]
        )
        log_lik = batch.preference * delta.sigmoid().log()
        log_lik = log_lik + (1 - batch.preference) * (-delta).sigmoid().log()
        log_lik = batch.pair_weight * log_lik
        weight = (rating[:, first] + rating[:, second]).softmax(0)
        probability = (weight * log_lik.exp()).sum(0)
        error = (weight * (log_lik.exp() - probability)).square().sum(0).sqrt()
        exact = trace.nodes[names.PREFERENCE]["fn"].log_prob(batch.preference).exp()
    assert error.max() < 0.02
    assert ((probability - exact).abs() < 4.5 * error).all()


@MODES
def test_predictions_do_not_read_outcomes(mode):
    model, batch = small_model(mode), small_batch()
    blind = replace(
        batch,
        preference=1 - batch.preference,
        ratings=batch.ratings + 5,
        pair_weight=2 * batch.pair_weight,
    )
    assert torch.equal(model.predict_pairs(batch), model.predict_pairs(blind))
    one, two = model.predict_responses(batch), model.predict_responses(blind)
    assert torch.equal(one.reward.mean, two.reward.mean)
    assert torch.equal(one.score_sd, two.score_sd)


def test_conditional_mode_predicts_with_the_prior_and_vib_with_the_guide():
    batch = small_batch()
    model = small_model("conditional")
    conditionals = model.conditionals(batch)
    weights = model.predictive_weights(batch.prompts)
    assert torch.equal(weights.concentration, conditionals.weights.concentration)
    features = model.predictive_features(batch.responses)
    assert torch.equal(features.mean, conditionals.features.mean)

    model = small_model("vib")
    conditionals = model.conditionals(batch)
    weights = model.predictive_weights(batch.prompts)
    expected = model.guide.weights(batch, conditionals).concentration
    assert torch.equal(weights.concentration, expected)
    assert not torch.equal(weights.concentration, conditionals.weights.concentration)
    features = model.predictive_features(batch.responses)
    assert torch.equal(features.mean, model.guide.features(batch, conditionals).mean)


@MODES
def test_predictions_take_raw_states(mode):
    """The scalers sit inside the doors: heads on standardised states say the same."""
    model, batch = small_model(mode), small_batch(20)
    model.prompt_scaler.set_statistics(
        batch.prompts.mean(0) + 1, 2 * batch.prompts.std(0, unbiased=False)
    )
    model.response_scaler.set_statistics(
        batch.responses.mean(0) - 1, 3 * batch.responses.std(0, unbiased=False)
    )
    standard = model.standardize(batch)
    assert torch.allclose(standard.prompts.mean(0), torch.full((HIDDEN_SIZE,), -0.5).double()
                          / batch.prompts.std(0, unbiased=False))  # fmt: skip
    q_weights = model.predictive_weights(batch.prompts)
    if mode == "conditional":
        expected = model.conditionals(standard).weights
    else:
        expected = model.guide.weights(standard, model.conditionals(standard))
    assert torch.equal(q_weights.concentration, expected.concentration)
    deviation = batch.responses.std(0, unbiased=False)
    assert torch.allclose(standard.responses.mean(0), 1 / (3 * deviation))
    q_features = model.predictive_features(batch.responses)
    if mode == "conditional":
        expected = model.conditionals(standard).features
    else:
        expected = model.guide.features(standard, model.conditionals(standard))
    assert torch.equal(q_features.mean, expected.mean)
    assert torch.equal(q_features.variance, expected.variance)
    assert torch.equal(standard.preference, batch.preference)


def test_response_predictions_are_moments_of_the_program():
    model, batch = small_model(), small_batch(4)
    with torch.no_grad():
        prediction = model.predict_responses(batch)
        conditionals = model.conditionals(batch)
        w = conditionals.weights.sample((100_000,))
        scores = conditionals.reward.scores(conditionals.features.sample((100_000,)))
        reward = conditionals.reward.scale * (w[:, batch.response_prompt] * scores).sum(-1)
    error = reward.std(0) / 100_000**0.5
    assert ((reward.mean(0) - prediction.reward.mean).abs() < 4.5 * error).all()
    assert torch.allclose(reward.var(0), prediction.reward.variance, rtol=0.05)
    error = scores.std(0) / 100_000**0.5
    assert ((scores.mean(0) - prediction.score_mean).abs() < 4.5 * error).all()
    assert torch.allclose(scores.std(0), prediction.score_sd, rtol=0.02)
    assert torch.equal(prediction.weight_mean, conditionals.weights.mean[batch.response_prompt])


def test_state_round_trips():
    one, two = small_model(seed=1), small_model(seed=2)
    batch = small_batch()
    assert not torch.equal(one.predict_pairs(batch), two.predict_pairs(batch))
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.predict_pairs(batch), two.predict_pairs(batch))

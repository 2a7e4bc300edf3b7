from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import sources
from scipy.special import expit

from vrm_pyro.errors import InputError
from vrm_pyro.models.guides import LabelBlindGuide
from vrm_pyro.models.priors import DirichletPrior, NormalPrior
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.training.preflight import check_overfit, check_signal, held_out_accuracy


def numbers(num_prompts=60, noise=0.5, ratings=0, seed=0, hidden=24):
    """Two pairs a prompt; what is preferred lies along one direction of the states."""
    rng = np.random.default_rng(seed)
    direction = np.random.default_rng(99).normal(size=hidden)
    responses = rng.normal(size=(4 * num_prompts, hidden)).astype(np.float32)
    first, second = 2 * np.arange(2 * num_prompts), 2 * np.arange(2 * num_prompts) + 1
    gap = (responses[first] - responses[second]) @ direction / noise
    label = (rng.random(len(first)) < expit(gap)).astype(float)
    # As rows come: the preferred one first.
    first, second = np.where(label > 0, (first, second), (second, first))
    return sources.NumberSource(
        rng.normal(size=(num_prompts, hidden)).astype(np.float32),
        responses,
        np.repeat(np.arange(num_prompts), 4),
        first,
        second,
        np.ones(len(first)),
        np.ones(len(first)),
        rng.normal(3, 1, (len(responses), ratings)),
        tuple("abcdef"[:ratings]),
    )


@pytest.mark.parametrize("objective", ["pairwise", "integrated", "collapsed", "sampled"])
def test_every_objective_learns_a_handful_by_heart(objective):
    found = check_overfit(ModelConfig(objective=objective), numbers())
    assert found.verdict == "ok", found
    assert found.finding.startswith("32 comparisons")


def test_the_baseline_too():
    baseline = check_overfit(ModelConfig(architecture="bradley_terry"), numbers(), num_steps=50)
    assert baseline.verdict == "ok", baseline


def test_ratings_that_agree_are_learned_along_and_others_are_named():
    source = numbers(ratings=3)
    states = source.responses
    quality = states @ np.random.default_rng(99).normal(size=states.shape[1])
    agreeing = 3 + 0.5 * quality[:, None] + 0.1 * source.ratings
    # A label against all ratings cannot be learned beside them: keep those that agree.
    first, second = source.pair_first, source.pair_second
    swap = (agreeing[first] < agreeing[second]).mean(1) > 0.5
    source = replace(
        source,
        pair_first=np.where(swap, second, first),
        pair_second=np.where(swap, first, second),
        ratings=agreeing,
    )
    assert check_overfit(ModelConfig(), source).verdict == "ok"
    found = check_overfit(ModelConfig(), replace(source, ratings=-agreeing), num_steps=100)
    assert found.verdict == "warn"
    assert "pull apart" in found.advice


def test_collapse_in_mode_vib_is_found_and_named():
    vib = ModelConfig(
        mode="vib",
        weight_prior=DirichletPrior(),
        feature_prior=NormalPrior(),
        guide=LabelBlindGuide(),
        objective="integrated",
    )
    found = check_overfit(vib, numbers(), num_steps=150)
    assert found.verdict == "fail", found
    assert "collapses the latents by theorem" in found.advice
    repaired = check_overfit(replace(vib, kl_weights=0.01, kl_features=0.01), numbers())
    assert repaired.verdict == "ok", repaired


def test_pairs_labelled_both_ways_cannot_be_learned():
    source = numbers(noise=0.01)
    half = len(source.pair_first) // 2
    both = replace(
        source,
        pair_first=np.concatenate([source.pair_first[:half], source.pair_second[:half]]),
        pair_second=np.concatenate([source.pair_second[:half], source.pair_first[:half]]),
    )
    found = check_overfit(ModelConfig(), both, num_steps=100)
    assert found.verdict == "fail"
    assert "labelled both ways" in found.advice


def test_overfit_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    check_overfit(ModelConfig(), numbers(), num_steps=2)
    assert torch.equal(state, torch.get_rng_state())


def test_settings_that_do_not_fit_the_rows_are_refused():
    with pytest.raises(InputError, match="no pair"):
        check_overfit(ModelConfig(), sources.without_pairs(numbers()))


def test_signal_in_both_directions():
    train, validation = numbers(), numbers(seed=1)
    assert check_signal(train).verdict == "ok"
    assert check_signal(train, validation).verdict == "ok"
    turned = replace(
        validation, pair_first=validation.pair_second, pair_second=validation.pair_first
    )
    found = check_signal(train, turned)
    assert found.verdict == "fail"
    assert "Turning the labels around would help" in found.advice
    noise = replace(numbers(seed=2), responses=numbers(seed=3).responses)
    assert check_signal(noise).verdict == "warn"


def test_a_rule_on_noise_is_right_half_of_the_time():
    rates = []
    for seed in range(40):
        noise = replace(numbers(seed=seed), responses=numbers(seed=100 + seed).responses)
        rates.append(held_out_accuracy(noise)[0])
    values = np.array([r.value for r in rates])
    spread = values.std(ddof=1)
    # Neither optimistic, nor fooled by "chosen stands first".
    assert abs(values.mean() - 0.5) < 4 * spread / len(values) ** 0.5
    assert 0.7 < np.mean([r.standard_error for r in rates]) / spread < 1.3

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.configs import network_config
from helpers.sources import directed_source, without_pairs

from vrm_pyro.errors import InputError
from vrm_pyro.models.guides import LabelBlindGuide
from vrm_pyro.models.priors import DirichletPrior, NormalPrior
from vrm_pyro.training.preflight import check_overfit


@pytest.mark.parametrize("objective", ["pairwise", "integrated", "collapsed", "sampled"])
def test_every_objective_learns_a_handful_by_heart(objective):
    found = check_overfit(network_config(objective=objective), directed_source())
    assert found.verdict == "ok", found
    assert found.finding.startswith("32 comparisons")


def test_the_baseline_too():
    baseline = check_overfit(
        network_config(architecture="bradley_terry"), directed_source(), num_steps=50
    )
    assert baseline.verdict == "ok", baseline


def test_ratings_that_agree_are_learned_along_and_others_are_named():
    source = directed_source(ratings=3)
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
    assert check_overfit(network_config(), source).verdict == "ok"
    found = check_overfit(network_config(), replace(source, ratings=-agreeing), num_steps=100)
    assert found.verdict == "warn"
    assert "pull apart" in found.advice


def test_collapse_in_mode_vib_is_found_and_named():
    vib = network_config(
        mode="vib",
        weight_prior=DirichletPrior(),
        feature_prior=NormalPrior(),
        guide=LabelBlindGuide(),
        objective="integrated",
    )
    found = check_overfit(vib, directed_source(), num_steps=150)
    assert found.verdict == "fail", found
    assert "collapses the latents by theorem" in found.advice
    repaired = check_overfit(replace(vib, kl_weights=0.01, kl_features=0.01), directed_source())
    assert repaired.verdict == "ok", repaired


def test_pairs_labelled_both_ways_cannot_be_learned():
    source = directed_source(noise=0.01)
    half = len(source.pair_first) // 2
    both = replace(
        source,
        pair_first=np.concatenate([source.pair_first[:half], source.pair_second[:half]]),
        pair_second=np.concatenate([source.pair_second[:half], source.pair_first[:half]]),
    )
    found = check_overfit(network_config(), both, num_steps=100)
    assert found.verdict == "fail"
    assert "labelled both ways" in found.advice


def test_overfit_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    check_overfit(network_config(), directed_source(), num_steps=2)
    assert torch.equal(state, torch.get_rng_state())


def test_settings_that_do_not_fit_the_rows_are_refused():
    with pytest.raises(InputError, match="no pair"):
        check_overfit(network_config(), without_pairs(directed_source()))

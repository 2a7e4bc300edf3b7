"""All diagnostics of a model on rows: none alarms where all is right, each on its own fault."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from helpers.configs import network_config
from helpers.problems import Arrays, small_batch, small_model
from helpers.right_runs import OBJECTIVES, check_inputs

from vrm_pyro.diagnostics.checks import DIAGNOSTICS, CheckInputs, log_scores, run_checks
from vrm_pyro.models.guides import DeltaGuide, LabelBlindGuide

# The diagnostic meant for each fault; it has to see it.
MEANT = {
    "sd halved": ("khat", "gaps", "simulation", "coverage"),
    "KL term scaled": ("gaps", "simulation"),
    "w on other rows": ("shuffle",),
    "w of other objectives": ("shuffle",),
    "prior shifted": ("prior",),
    "prior too tight": ("prior",),
    "labels flipped in a subset": ("predictive", "calibration", "guide_shift"),
    "labels flipped": ("loo",),
    "labels follow one objective": ("weights",),
    "ratings scaled": ("ratings", "rating_coverage", "predictive"),
    "collapse of w": ("collapse", "shuffle"),
    "collapse of z": ("collapse",),
    "labels like length": ("length",),
    "labels like the first": ("length",),
    "other texts in a subset": ("shift",),
}
CHEAP = ("calibration", "loo", "length", "shuffle", "weights", "collapse", "shift")
WITHOUT_TEST = ("sensitivity", "units")


@pytest.mark.parametrize("fault", [f for f, names in MEANT.items() if not set(names) - set(CHEAP)])
def test_faults_of_predictions_are_caught(fault):
    found = run_checks(check_inputs(0, fault=fault), MEANT[fault])
    assert {name for name, finding in found.items() if finding.alarm} == set(MEANT[fault])
    assert all(finding.advice for finding in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("fault", [f for f, names in MEANT.items() if set(names) - set(CHEAP)])
def test_faults_of_guide_and_outcomes_are_caught(fault):
    found = run_checks(check_inputs(0, num_prompts=150, num_draws=400, fault=fault), MEANT[fault])
    assert {name for name, finding in found.items() if finding.alarm} == set(MEANT[fault])
    assert all(finding.advice for finding in found.values())


def test_right_predictions_raise_few_alarms():
    """20 runs of seven tests at level 1%: more than 5 alarms have a chance of 1e-3."""
    alarms = Counter()
    for seed in range(20):
        found = run_checks(check_inputs(seed, num_prompts=100), CHEAP)
        alarms.update(name for name, finding in found.items() if finding.alarm)
    assert max(alarms.values(), default=0) <= 2, alarms
    assert sum(alarms.values()) <= 5, alarms


@pytest.mark.slow
def test_right_runs_raise_few_alarms():
    names = [name for name in DIAGNOSTICS if name not in (*CHEAP, *WITHOUT_TEST)]
    alarms = Counter()
    for seed in range(20):
        found = run_checks(check_inputs(seed, 60, 400), names)
        alarms.update(name for name, finding in found.items() if finding.alarm)
    assert max(alarms.values(), default=0) <= 2, alarms
    assert sum(alarms.values()) <= 5, alarms


def test_every_finding_is_json_of_one_shape():
    run = check_inputs(0, num_prompts=44, num_draws=150)
    shapes = set()
    for name, finding in run_checks(run).items():
        held = finding.to_json()
        assert json.loads(json.dumps(held, allow_nan=False)) == held
        assert held["name"] == name
        assert held["verdict"]
        shapes.add(tuple(held))
        assert finding.applies, (name, finding.verdict)
    assert len(shapes) == 1


def other_model(run, model, **settings):
    loaded = replace(run.loaded, model=model, config=network_config(**settings))
    return CheckInputs(loaded, run.rows, run.some, run.num_draws)


def test_a_label_blind_guide_has_no_posterior_to_check():
    run = check_inputs(0, num_prompts=40, num_draws=120)
    model = small_model("vib", num_objectives=3, latent_dim=3)
    blind = other_model(run, model, mode="vib", guide=LabelBlindGuide())
    found = run_checks(blind, ["simulation", "coverage", "prior", "khat", "ratings", "loo"])
    for name in ("simulation", "coverage", "prior"):
        assert not found[name].applies
        assert "does not see outcomes" in found[name].verdict
    assert all(found[name].applies for name in ("khat", "ratings", "loo"))


def test_points_have_no_spread_to_check():
    run = check_inputs(0, num_prompts=40, num_draws=120)
    model = small_model("vib", num_objectives=3, latent_dim=3)
    model.guide = DeltaGuide().build(3, 3, 3).double()
    point = other_model(run, model, mode="vib", guide=DeltaGuide())
    found = run_checks(point)
    silent = {name for name, finding in found.items() if not finding.applies}
    assert {"khat", "gaps", "simulation", "coverage", "prior", "sensitivity"} <= silent
    assert found["calibration"].applies


def test_log_scores_are_those_of_single_pairs():
    """One pair a prompt: log p of its label, as predict_pairs gives it."""
    batch = small_batch(30, seed=3)
    run = check_inputs(0, num_prompts=30)
    model = run.loaded.model
    one = replace(
        batch,
        pair_first=batch.pair_first[:1], pair_second=batch.pair_second[:1],
        preference=batch.preference[1:2], pair_weight=batch.pair_weight[:1],
    )  # fmt: skip
    source = Arrays(one.to(run.vrm.rating_scale.dtype))
    p = run.vrm.predict_pairs(one.to(run.vrm.rating_scale.dtype)).detach().numpy()
    found = log_scores(run.loaded, source, p)
    c = one.preference.numpy()
    assert found[0] == pytest.approx((c * np.log(p) + (1 - c) * np.log(1 - p))[0], abs=0.01)
    assert np.abs(found[1:]).max() < 1e-12
    assert model.num_objectives == len(OBJECTIVES)

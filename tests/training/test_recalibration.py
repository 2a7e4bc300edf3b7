"""Scales set by the evidence of validation rows."""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import small_runs
from helpers.configs import network_config

from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import load_model, save_model
from vrm_pyro.models.guides import LabelBlindGuide
from vrm_pyro.models.priors import (
    ConditionalDirichletPrior,
    ConditionalNormalPrior,
    DirichletPrior,
    NormalPrior,
)
from vrm_pyro.models.priors.spread import SPREAD
from vrm_pyro.models.ratings import DifferenceRatings, GaussianRatings
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.settings.config import check_settings
from vrm_pyro.prediction.posterior import standard_batch
from vrm_pyro.training.recalibration import _fit_totals, recalibrate
from vrm_pyro.training.run.read_settings import read_settings

CONFIG = network_config(
    weight_prior=ConditionalDirichletPrior(0, initial_concentration=3.0),
    feature_prior=ConditionalNormalPrior(0, initial_scale=0.8),
    rating_likelihood=GaussianRatings(0.4, learn_scale=True),
    scores="identity",
    latent_dim=0,
    reward_scale=4.0,
    objective="integrated",
    recalibrate=True,
)


def drawn(num_prompts=200, hidden=4, seed=0):
    """Return a model and rows drawn from it: four responses a prompt, six pairs, all rated."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build_model(CONFIG, hidden, 3, True).eval()
    owner = np.repeat(np.arange(num_prompts), 4)
    prompts = rng.normal(size=(num_prompts, hidden)).astype(np.float32)
    responses = rng.normal(size=(len(owner), hidden)).astype(np.float32)
    with torch.no_grad():
        w = model.predictive_weights(torch.from_numpy(prompts)).sample().numpy()
        z = model.predictive_features(torch.from_numpy(responses)).sample().numpy()
    reward = 4.0 * (w[owner] * z).sum(1)
    pairs = np.array([(4 * p + i, 4 * p + j) for p in range(num_prompts)
                      for i in range(4) for j in range(i)])  # fmt: skip
    delta = reward[pairs[:, 0]] - reward[pairs[:, 1]]
    source = SimpleNamespace(
        prompts=prompts,
        responses=responses,
        response_prompt=owner,
        pair_first=pairs[:, 0],
        pair_second=pairs[:, 1],
        preference=(rng.random(len(delta)) < 1 / (1 + np.exp(-delta))).astype(float),
        pair_weight=np.ones(len(delta)),
        ratings=z + 0.4 * rng.normal(size=z.shape),
        objectives=("a", "b", "c"),
    )
    return model, source


def spoiled(model):
    """Return a model whose scales are too small, as after training on few rows."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.feature_prior.get_buffer(SPREAD).fill_(0.6)
        other.weight_prior.get_buffer(SPREAD).fill_(0.5)
        other.reward.log_scale.fill_(math.log(2.5))
        other.ratings.scale.log_scale.fill_(math.log(0.6))
    return other


def scales(model):
    return [
        model.feature_prior.get_buffer(SPREAD).log().mean().exp().item(),
        model.weight_prior.get_buffer(SPREAD).item(),
        model.reward.log_scale.exp().item(),
        model.ratings.scale.log_scale.mean().exp().item(),
    ]


def mean_factor(values):
    return float(np.exp(np.log(values).mean()))


def test_the_scales_that_made_the_rows_are_found():
    model, source = drawn()
    other = spoiled(model)
    found = recalibrate(other, source, progress=False)
    # Over six draws of 200 prompts the factors had standard deviations of .012, .17, .12 and .06.
    for value, truth, deviation in zip(
        scales(other), (1.0, 1.0, 4.0, 0.4), (0.012, 0.17, 0.12, 0.06), strict=True
    ):
        assert math.log(value / truth) == pytest.approx(0.0, abs=3.5 * deviation + 0.01)
    assert found["evidence_after"] > found["evidence_before"] + 0.1
    assert mean_factor(found["features"]) == pytest.approx(scales(other)[0] / 0.6, rel=1e-4)
    assert found["reward"] == pytest.approx(scales(other)[2] / 2.5, rel=1e-4)


@pytest.mark.parametrize("ratings", [GaussianRatings(), DifferenceRatings()])
def test_each_objective_gets_its_own_total_spread(ratings):
    """Ratings of three objectives whose spreads are wrong by different factors."""
    model, source = drawn(num_prompts=400)
    model.ratings = ratings.build(3).double()
    wrong = torch.tensor([0.5, 1.0, 1.6])
    with torch.no_grad():
        model.ratings.scale.log_scale.copy_((0.4 * wrong).log())
        model.feature_prior.get_buffer(SPREAD).copy_(wrong)
    batch = standard_batch(model.double(), source)
    _fit_totals(model, batch)
    # sd of a log scale from n Gaussian residuals, 3 of the 4 free where levels are.
    error = 1 / math.sqrt(2 * 400 * 3)
    for found in (
        model.feature_prior.get_buffer(SPREAD).log(),
        model.ratings.scale.log_scale - math.log(0.4),
    ):
        assert (found.abs() < 4 * error).all()


def test_ratings_alone_set_their_spread():
    model, source = drawn(num_prompts=60)
    source.pair_first = source.pair_second = np.zeros(0, int)
    source.preference = source.pair_weight = np.zeros(0)
    with torch.no_grad():
        model.feature_prior.get_buffer(SPREAD).fill_(0.5)
    found = recalibrate(model, source, progress=False)
    assert found["evidence_after"] > found["evidence_before"]
    assert (found["weights"], found["reward"]) == (1.0, 1.0)
    assert min(found["features"]) > 1.0


def test_a_file_with_one_factor_is_read():
    model, _ = drawn(num_prompts=2)
    state = model.state_dict()
    name = f"feature_prior.{SPREAD}"
    assert state[name].shape == (3,)
    model.load_state_dict(state | {name: torch.tensor(1.5)})
    assert model.feature_prior.get_buffer(SPREAD).tolist() == [1.5, 1.5, 1.5]


@pytest.mark.slow
def test_right_scales_stay_and_means_never_move():
    model, source = drawn(seed=1)
    other = copy.deepcopy(model)
    found = recalibrate(other, source, progress=False)
    for name, deviation in (("features", 0.012), ("reward", 0.12), ("ratings", 0.06)):
        assert math.log(mean_factor(found[name])) == pytest.approx(0.0, abs=3.5 * deviation + 0.01)
    prompts, responses = (torch.from_numpy(x) for x in (source.prompts, source.responses))
    with torch.no_grad():
        for states, way in ((prompts, "predictive_weights"), (responses, "predictive_features")):
            before, after = (getattr(m, way)(states).mean for m in (model, other))
            torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)


def test_a_seed_fixes_the_factors():
    model, source = drawn(num_prompts=8)
    first, second = (recalibrate(copy.deepcopy(model), source, 3, False) for _ in range(2))
    assert first == second


def test_training_sets_them_keeps_them_and_says_so(tmp_path):
    settings = {"num_prompts": 27, "num_validation": 9}
    config = replace(small_runs.VRM, recalibrate=True)
    result = small_runs.run(config, tmp_path / "run", **settings)
    plain = small_runs.run(small_runs.VRM, tmp_path / "plain", **settings)
    found = result.metrics["scales"]
    assert found["evidence_after"] >= found["evidence_before"]
    assert "scales" not in plain.metrics
    model = result.loaded.model
    assert model.feature_prior.get_buffer(SPREAD).tolist() == pytest.approx(found["features"])
    save_model(result.loaded, tmp_path / "saved")
    again = load_model(tmp_path / "saved").model
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_mode_vib_has_no_prior_that_predicts():
    config = network_config(
        mode="vib",
        objective="integrated",
        weight_prior=DirichletPrior(),
        feature_prior=NormalPrior(),
        guide=LabelBlindGuide(),
        recalibrate=True,
    )
    with pytest.raises(InputError, match=r"model\.recalibrate is true, but mode 'vib'"):
        check_settings(config)


def test_a_backbone_that_is_trained_along_is_refused_before_rows_are_read():
    given = {"model.recalibrate": True, "tuning.method": "lora", "data.train": "no_such.jsonl"}
    with pytest.raises(InputError, match=r"model\.recalibrate is true, but the backbone is"):
        read_settings(overrides=given)

import copy
import math
import sys

import numpy as np
import pytest
import torch
from helpers.problems import Arrays, small_batch, small_model

from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.diagnostics.certificates import (
    FitSettings,
    GaussianHead,
    HeadParameters,
    certify_head,
    fit_head,
    head_rule,
    monte_carlo_upper,
    pac_bayes_upper,
    prompt_means,
)
from vrm_pyro.diagnostics.certificates.fit_head import smooth_bound, surrogate_loss
from vrm_pyro.diagnostics.certificates.head_rule import frozen_copy, gibbs_risks
from vrm_pyro.diagnostics.certificates.prompt_losses import LOSSES
from vrm_pyro.errors import InputError
from vrm_pyro.prediction.predict import predict

N = 300


@pytest.fixture(scope="module")
def world():
    """A model whose A is off, and labels of prompts from the model with the right A."""
    truth = small_model(ratings=False, dtype=torch.float32)
    batch = small_batch(N, ratings=False, dtype=torch.float32)
    with torch.no_grad():
        truth.reward.log_scale.fill_(2.0)
        labels = torch.bernoulli(truth.predict_pairs(batch))
        model = copy.deepcopy(truth)
        model.reward.loading.mul_(torch.tensor([[-1.0, 0.3], [1.0, -1.0], [0.2, 0.5]]))
    values = batch.as_dict() | {"preference": labels}
    return model, truth, Arrays(type(batch)(**values))


def mean_error(model, source):
    errors = LOSSES["error"](predict(model, source).p_first, source.preference)
    prompt = source.response_prompt[source.pair_first]
    return prompt_means(errors, source.pair_weight, prompt).mean()


def test_smooth_bound_is_above_the_inverse():
    for risk in (0.0, 0.05, 0.3, 0.6):
        for kl in (0.0, 5.0, 50.0):
            log_term = math.log(2 * math.sqrt(N) / 0.05)
            smooth = smooth_bound(torch.tensor(risk).double(), torch.tensor(kl), log_term, N)
            assert float(smooth) >= pac_bayes_upper(risk, kl, N, 0.05) - 1e-9


def test_surrogate_is_above_the_error(world):
    model, _, source = world
    parameters = HeadParameters.of(model)
    with frozen_copy(model) as copied, torch.no_grad():
        batch = PromptDataset(source).batch()
        value = surrogate_loss(copied, parameters, parameters.trained, batch, "error")
    assert float(value) > mean_error(model, source)


@pytest.mark.parametrize("loss", ["error", "brier"])
def test_fit_lowers_the_bound(world, loss):
    """Where the trained head is wrong, Q pays KL for a smaller risk, and is measured as such."""
    model, truth, source = world
    parameters, scale = HeadParameters.of(model), 1.0
    log_term = math.log(2 * math.sqrt(N) / 0.05)
    prior = GaussianHead.prior(parameters, scale)
    with frozen_copy(model) as copied:
        fitted = fit_head(
            copied, parameters, scale, source, n=N, log_term=log_term, loss=loss,
            settings=FitSettings(steps=150),
        )  # fmt: skip
        risks = [gibbs_risks(copied, parameters, q, source, 60, 1) for q in (fitted, prior)]
    kl = float(fitted.kl(prior))
    bounds = [
        pac_bayes_upper(risk[loss].mean(), cost, N, 0.05)
        for risk, cost in zip(risks, (kl, 0.0), strict=True)
    ]
    assert kl > 1
    assert bounds[0] < bounds[1] - 0.03
    assert mean_error(truth, source) < risks[0]["error"].mean() < mean_error(model, source)


def test_risk_of_a_draw_is_that_of_the_model(world):
    """With no spread every draw is the trained model, and evaluation says the same."""
    model, _, source = world
    parameters = HeadParameters.of(model)
    sharp = GaussianHead.prior(parameters, 1e-9)
    with frozen_copy(model) as copied:
        risks = gibbs_risks(copied, parameters, sharp, source, 3, 0)
    assert risks["error"] == pytest.approx([mean_error(model, source)] * 3, abs=1e-6)
    p = predict(model, source).p_first
    prompt = source.response_prompt[source.pair_first]
    brier = prompt_means(LOSSES["brier"](p, source.preference), source.pair_weight, prompt)
    assert risks["brier"] == pytest.approx([brier.mean()] * 3, abs=1e-6)


def test_draws_meet_every_chunk_alike(world, monkeypatch):
    model, _, source = world
    parameters = HeadParameters.of(model)
    wide = GaussianHead.prior(parameters, 0.5)
    with frozen_copy(model) as copied:
        whole = gibbs_risks(copied, parameters, wide, source, 5, 7)
        chunks = head_rule.chunks
        monkeypatch.setattr(head_rule, "chunks", lambda dataset: chunks(dataset, max_pairs=50))
        parts = gibbs_risks(copied, parameters, wide, source, 5, 7)
    assert np.ptp(whole["error"]) > 0
    for name in LOSSES:
        assert parts[name] == pytest.approx(whole[name], abs=1e-6)


def test_certificate_is_made_of_its_parts(world):
    model, _, source = world
    settings = FitSettings(steps=100)
    found = certify_head(
        model, source, num_draws=40, prior_scales=(0.01, 1.0), settings=settings, chi=2.0
    )
    for loss in LOSSES:
        for kind, bound in found.bounds[loss].items():
            assert bound.observed_upper == monte_carlo_upper(bound.observed, 40, 0.01 / 2)
            expected = pac_bayes_upper(bound.observed_upper, bound.kl, N / 2, 0.05, 2)
            assert bound.value == pytest.approx(expected, abs=1e-12)
            assert (bound.posterior, bound.loss, bound.n) == (kind, loss, N / 2)
            assert bound.confidence == pytest.approx(0.94)
        values = [bound.value for bound in found.bounds[loss].values()]
        assert found.best(loss).value == min(values)
    assert found.bounds["error"]["prior"].kl == 0
    assert found.best("error").posterior == "fitted"


def test_draws_that_measure_are_none_of_those_that_choose(world, monkeypatch):
    """Otherwise the smallest of several noisy means would pass for its own expectation."""
    model, _, source = world
    choosing, measuring = [], []

    def risks(_model, _parameters, posterior, _source, num_draws, seed, _tick):
        (measuring if num_draws == 7 else choosing).append((seed, posterior))
        return {name: np.full(num_draws, 0.2) for name in LOSSES}

    def fit(_model, parameters, scale, *_, **__):
        return GaussianHead.prior(parameters, scale / 2)

    place = sys.modules[certify_head.__module__]  # the function hides it in the package
    monkeypatch.setattr(place, "gibbs_risks", risks)
    monkeypatch.setattr(place, "fit_head", fit)
    certify_head(model, source, num_draws=7, prior_scales=(0.1, 1.0))
    assert len(choosing) == 4
    assert len(measuring) == len({seed for seed, _ in measuring}) == 2
    assert not {seed for seed, _ in choosing} & {seed for seed, _ in measuring}


def test_seed_fixes_everything_and_leaves_torch_alone(world):
    model, _, source = world
    arguments = {"num_draws": 10, "prior_scales": (0.1,)}
    before = torch.random.get_rng_state()
    one = certify_head(model, source, **arguments, settings=FitSettings(10, seed=1))
    two = certify_head(model, source, **arguments, settings=FitSettings(10, seed=1))
    other = certify_head(model, source, **arguments, settings=FitSettings(10, seed=2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert one == two
    assert one != other


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_draws": 0}, "draws is 0"),
        ({"prior_scales": ()}, "list of positive numbers"),
        ({"prior_scales": (0.1, -1.0)}, "list of positive numbers"),
        ({"loss": "log"}, "must be one of error, brier"),
        ({"delta": 2.0}, "delta is 2.0"),
        ({"delta_mc": 0.0}, "delta_mc is 0.0"),
        ({"chi": 100.0}, "at least 8 independent units, here are 3"),
    ],
)
def test_what_gives_no_certificate(world, settings, words):
    model, _, source = world
    with pytest.raises(InputError, match=words):
        certify_head(model, source, **settings)

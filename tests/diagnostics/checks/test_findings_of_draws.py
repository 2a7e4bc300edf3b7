"""k-hat, gaps, prior, rating PIT and predictive checks, each on arrays with known truth."""

import math

import numpy as np
import pytest

from vrm_pyro.diagnostics.checks.gaps import TOLERANCE, gaps
from vrm_pyro.diagnostics.checks.khat import khat
from vrm_pyro.diagnostics.checks.predictive_checks import Outcomes, predictive_checks
from vrm_pyro.diagnostics.checks.prior_overlap import PriorAndPosterior, overlap, prior_overlap
from vrm_pyro.diagnostics.checks.rating_pit import rating_pit


def log_weights(scale, num_draws=1000, num_prompts=60, dims=4, seed=0):
    """log N(0, 1) - log N(0, scale) at draws of the latter, in some dimensions."""
    x = scale * np.random.default_rng(seed).standard_normal((num_draws, num_prompts, dims))
    return (-0.5 * x**2 + 0.5 * (x / scale) ** 2 + np.log(scale)).sum(-1)


def test_khat_of_a_right_and_a_wide_guide_is_fine():
    for scale in (1.0, 1.3):
        found = khat(log_weights(scale))
        assert found.alarm is False
        assert found.value == 0
    assert found.detail["median"] < 0.5


def test_khat_of_a_narrow_guide_raises_the_alarm():
    found = khat(log_weights(0.5))
    assert found.alarm is True
    assert found.value > 0.5
    assert "misses" in found.verdict
    assert found.to_json()["detail"]["khat"]


def test_khat_of_weights_that_are_not_finite_counts_as_bad():
    weight = log_weights(1.0)
    weight[0, :30] = np.nan
    assert khat(weight).value == pytest.approx(0.5)


def test_khat_may_be_bad_on_a_tenth_of_all_prompts():
    """The p-value is the chance of so many bad ones, or more, where a tenth is bad."""
    weight = np.zeros((200, 20))
    for bad, alarm in ((4, False), (7, True)):
        weight[0, :bad] = np.nan
        found = khat(weight)
        below = sum(math.comb(20, k) * 0.1**k * 0.9 ** (20 - k) for k in range(bad))
        assert found.p_value == pytest.approx(1 - below)
        assert found.alarm is alarm


def test_gaps_name_the_part_that_is_too_large():
    rng = np.random.default_rng(0)
    evidence, error = rng.normal(-5, 1, 80), np.full(80, 0.01)
    small, large = 0.1 * rng.random(80), TOLERANCE + 0.5 + 0.2 * rng.random(80)
    fine = gaps(evidence - 2 * small, evidence, error, evidence - small)
    assert fine.alarm is False
    assert fine.value == pytest.approx(2 * small.mean())
    network = gaps(evidence - small - large, evidence, error, evidence - small)
    assert network.alarm is True
    assert "amortization gap is above" in network.verdict
    assert "approximation gap is above" not in network.verdict
    family = gaps(evidence - small - large, evidence, error, evidence - large)
    assert "approximation gap is above" in family.verdict
    whole = gaps(evidence - 2 * large, evidence, error)
    assert whole.alarm is True
    assert set(whole.detail["parts"]) == {"evidence gap"}


def test_an_elbo_above_the_evidence_is_no_bound():
    """The KL term times .5: what is reported exceeds what it should bound."""
    rng = np.random.default_rng(1)
    evidence, kl = rng.normal(-5, 1, 80), 1 + 0.3 * rng.random(80)
    elbo = evidence - 0.1 + 0.5 * kl
    found = gaps(elbo, evidence, np.full(80, 0.01), elbo + 0.01)
    assert found.alarm is True
    assert "above the log evidence" in found.verdict
    # A gap of nothing, with the noise of the evidence, is no such case.
    noise = 0.01 * rng.standard_normal(80)
    assert gaps(evidence, evidence + noise, np.full(80, 0.01), evidence).alarm is False


def normal_update(num=150, draws=600, shift=0.0, scale=1.0, seed=0):
    """Items theta ~ N(0, 1) with one datum of variance 1; the prior assumed is N(shift, scale)."""
    rng = np.random.default_rng(seed)
    datum = rng.standard_normal(num) + rng.standard_normal(num)
    precision = 1 / scale**2 + 1
    loc = (shift / scale**2 + datum) / precision
    prior = shift + scale * rng.standard_normal((draws, num))
    posterior = loc + rng.standard_normal((draws, num)) / precision**0.5
    weight = np.full((draws, num), 1 / draws)
    return {"theta": PriorAndPosterior(prior, posterior, np.arange(num), weight)}


def test_a_right_prior_raises_no_alarm():
    assert prior_overlap(normal_update()).alarm is False


@pytest.mark.parametrize(
    ("shift", "scale", "word"),
    [(0.7, 1.0, "too high"), (-0.7, 1.0, "too low"), (0.0, 0.4, "tight"), (0.0, 3.0, "wide")],
)
def test_a_wrong_prior_is_caught_and_named(shift, scale, word):
    found = prior_overlap(normal_update(num=400, shift=shift, scale=scale))
    assert found.alarm is True
    assert word in found.verdict


def test_importance_weights_take_the_guides_error_out():
    """A guide with draws too narrow, weighted by the exact posterior, leaves the prior right."""
    held = normal_update(draws=2000)["theta"]
    rng = np.random.default_rng(1)
    middle, spread = held.posterior.mean(0), held.posterior.std(0)
    noise = rng.standard_normal(held.prior.shape)
    drawn = middle + 0.8 * spread * noise
    log_ratio = -0.5 * (0.8 * noise) ** 2 + 0.5 * noise**2
    weight = np.exp(log_ratio) / np.exp(log_ratio).sum(0)
    assert prior_overlap({"t": held._replace(posterior=drawn, weight=weight)}).alarm is False
    assert prior_overlap({"t": held._replace(posterior=drawn)}).alarm is True


def test_tempered_outcomes_test_the_mean_alone():
    """The rating counts with power .2: the averaged posterior is not the prior's spread."""
    rng = np.random.default_rng(2)
    datum = rng.standard_normal(400) + rng.standard_normal(400)
    loc, sd = 0.2 * datum / 1.2, (1 / 1.2) ** 0.5
    drawn = loc + sd * rng.standard_normal((800, 400))
    prior = rng.standard_normal((800, 400))
    held = PriorAndPosterior(prior, drawn, np.arange(400), np.full((800, 400), 1 / 800))
    assert prior_overlap({"t": held}).alarm is True
    assert prior_overlap({"t": held}, tempered=True).alarm is False


def test_overlap_of_two_normals():
    """N(0, 1) and N(1, 1) share 2 Phi(-1/2) = .617 of their area."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((2, 20_000, 1))
    equal = np.full(x.shape, 1 / 20_000)
    assert overlap(x, y + 1, equal) == pytest.approx(0.617, abs=0.02)
    assert overlap(x, x, equal) == pytest.approx(1.0)


def rated(scale=1.0, shift=0.0, steps=False, seed=0):
    """Ratings of 120 prompts with three responses and two objectives, a fifth missing."""
    rng = np.random.default_rng(seed)
    prompt = np.repeat(np.arange(120), 3)
    truth = rng.standard_normal((360, 2))
    drawn = rng.standard_normal((300, 360, 2))
    if steps:
        truth, drawn = np.round(truth), np.round(drawn)
    truth = shift + scale * truth
    truth[rng.random(truth.shape) < 0.2] = np.nan
    return drawn.astype(np.float32), truth, prompt, ("clear", "safe")


@pytest.mark.parametrize("steps", [False, True])
def test_right_ratings_raise_no_alarm(steps):
    found = rating_pit(*rated(steps=steps))
    assert found.alarm is False
    assert found.detail["quantities"]["clear"]["num_prompts"] <= 120


@pytest.mark.parametrize(
    ("scale", "shift", "word"), [(1.7, 0, "narrow"), (0.5, 0, "wide"), (1, 0.6, "too low")]
)
@pytest.mark.parametrize("steps", [False, True])
def test_ratings_on_another_scale_are_caught(scale, shift, word, steps):
    found = rating_pit(*rated(scale, shift, steps))
    assert found.alarm is True
    assert word in found.verdict


def test_differences_do_not_see_the_level_of_a_prompt():
    drawn, truth, prompt, names = rated()
    truth = truth + np.random.default_rng(4).normal(0, 3, 120)[prompt][:, None]
    assert rating_pit(drawn, truth, prompt, names).alarm is True
    assert rating_pit(drawn, truth, prompt, names, differences=True).alarm is False
    assert rating_pit(drawn, 2 * truth, prompt, names, differences=True).alarm is True


def test_few_ratings_do_not_suffice():
    drawn, truth, prompt, names = rated()
    truth[30:] = np.nan
    assert not rating_pit(drawn, truth, prompt, names).applies


def outcomes(flip=None, seed=0):
    """200 prompts of one pair in two subsets; labels follow the probability."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.1, 0.9, 200)
    subset = np.where(np.arange(200) < 100, "code", "chat")
    label = (rng.random(200) < p).astype(float)
    if flip:
        label = np.where(subset == flip, 1 - label, label)
    drawn = (rng.random((400, 200)) < p).astype(float)
    prompt = np.arange(200)
    return Outcomes(p, label, drawn, prompt, None, None, prompt, subset.tolist(), ())


def test_predictive_checks_name_the_subset_with_flipped_labels():
    assert predictive_checks(outcomes()).alarm is False
    found = predictive_checks(outcomes("code"))
    assert found.alarm is True
    far = [r for r in found.detail["statistics"] if r["p_value"] < 1e-4]
    assert {r["subset"] for r in far} - {"all rows"} == {"code"}
    assert "flipped labels" in found.advice

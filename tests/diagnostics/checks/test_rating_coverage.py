"""Coverage of held-out ratings: against Normals, steps, differences and one's own model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.problems import small_model
from helpers.right_runs import check_inputs
from scipy import stats

from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.diagnostics.checks import run_checks
from vrm_pyro.diagnostics.checks.coverage import coverage
from vrm_pyro.diagnostics.checks.rating_coverage import LEVELS, NAME, rating_coverage
from vrm_pyro.diagnostics.checks.rating_pit import rated_draws

NAMES = ("clear", "safe")


def rated(scale=1.0, level=0.0, steps=False, shared=0.0, seed=0):
    """Ratings of 300 prompts with four responses and two objectives, N(0, scale), 30% missing.

    ``shared`` is the part of the variance that all ratings of a prompt have in common, and
    ``level`` the sd of a level of each prompt that the draws do not know.
    """
    rng = np.random.default_rng(seed)
    prompt = np.repeat(np.arange(300), 4)

    def ratings(*sample):
        common = rng.standard_normal((*sample, 300, 1))[..., prompt, :]
        alone = rng.standard_normal((*sample, 1200, 2))
        return shared**0.5 * common + (1 - shared) ** 0.5 * alone

    truth, drawn = scale * ratings(), ratings(300)
    if steps:
        truth, drawn = np.round(truth), np.round(drawn)
    truth = truth + level * rng.standard_normal((300, 1))[prompt]
    truth[rng.random(truth.shape) < 0.3] = np.nan
    return drawn, truth, prompt, NAMES


def normal_coverage(scale):
    """Share of N(0, scale^2) in the central intervals of N(0, 1)."""
    return [float(1 - 2 * stats.norm.sf(stats.norm.ppf((1 + q) / 2) / scale)) for q in LEVELS]


@pytest.mark.parametrize("scale", [1.0, 0.5, 1.6])
@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_coverage_is_that_of_normals(scale, shared):
    found = rating_coverage(*rated(scale, shared=shared))
    quantities = found.detail["quantities"]
    assert set(quantities) == set(NAMES)
    for rows in (found.detail["all"], *quantities.values()):
        for level, expected in zip(LEVELS, normal_coverage(scale), strict=True):
            row = rows[f"{level:g}"]
            # Ends of the intervals come from 300 draws, whose quantiles err too.
            error = np.hypot(row["standard_error"], (level * (1 - level) / 300 / 1200) ** 0.5)
            assert abs(row["observed"] - expected) < 4.5 * error
    assert found.value == found.detail["all"]["0.9"]["observed"]
    assert found.alarm is (scale != 1)
    word = {1.0: "", 0.5: "Too wide: clear, safe", 1.6: "Too narrow: clear, safe"}[scale]
    assert word in found.verdict
    assert bool(found.advice) is bool(word)


def test_standard_errors_are_over_prompts():
    """Ratings of a prompt that are nearly one: 300 observations, not 1,680."""
    alone = rating_coverage(*rated()).uncertainty
    shared = rating_coverage(*rated(shared=0.999)).uncertainty
    assert alone == pytest.approx((0.09 / 1680) ** 0.5, rel=0.15)
    assert shared == pytest.approx((0.09 / 300) ** 0.5, rel=0.2)


def test_one_objective_is_named():
    drawn, truth, prompt, names = rated()
    found = rating_coverage(drawn, truth * [1.0, 2.0], prompt, names)
    assert found.alarm is True
    assert "Too narrow: safe." in found.verdict
    assert "recalibrate" in found.advice
    assert "learn_scale" not in found.advice


def test_ratings_in_steps_count_in_parts():
    """The interval of a right model holds 90%, though the middle step alone has 38%."""
    found = rating_coverage(*rated(steps=True))
    assert found.alarm is False
    for level in LEVELS:
        row = found.detail["all"][f"{level:g}"]
        assert abs(row["observed"] - level) < 4.5 * row["standard_error"]


def test_all_ratings_inside_are_an_alarm():
    """No spread to estimate an error from, and still clearly more than 95%."""
    found = rating_coverage(*rated(1e-3))
    assert found.value == 1
    assert found.alarm is True
    assert "Too wide" in found.verdict


def test_a_little_outside_is_no_alarm():
    """88% is less than 90%, and surely so, but within what counts as right."""
    scale = stats.norm.ppf(0.95) / stats.norm.ppf(0.94)
    found = rating_coverage(*rated(scale))
    assert 0.86 < found.value < 0.9
    assert found.alarm is False


def test_differences_do_not_see_the_level_of_a_prompt():
    data = rated(level=3.0)
    assert rating_coverage(*data).alarm is True
    found = rating_coverage(*data, differences=True)
    assert found.alarm is False
    assert abs(found.value - 0.9) < 4.5 * found.uncertainty
    counts = (~np.isnan(data[1])).reshape(300, 4, 2).sum(1)
    assert found.detail["num_ratings"] == (counts - 1).clip(0).sum()


def test_objectives_rated_on_few_prompts_are_left_out():
    drawn, truth, prompt, names = rated()
    truth[76:, 1] = np.nan
    found = rating_coverage(drawn, truth, prompt, names)
    assert set(found.detail["quantities"]) == {"clear"}
    truth[76:] = np.nan
    assert not rating_coverage(drawn, truth, prompt, names).applies


@pytest.fixture(scope="module")
def run():
    """A model and ratings of its own program; the guide does not matter here, so a cheap one."""
    made = check_inputs(num_prompts=100, num_draws=200)
    made.loaded.model.guide = small_model(num_objectives=3, latent_dim=3).guide
    return made


def test_intervals_are_those_of_z_given_the_text_and_the_noise_of_a_rating(run):
    model, source = run.loaded.model, run.some.source
    with torch.no_grad():
        batch = PromptDataset(source).batch().to(torch.float64)
        found, noise = model.predict_responses(batch), model.ratings()
        sd = (found.score_sd**2 + noise.scale**2).sqrt()
        z = ((torch.from_numpy(source.ratings) - found.score_mean - noise.offset) / sd).numpy()
    observed = run_checks(run, [NAME])[NAME]
    assert observed.alarm is False
    assert observed.detail["num_ratings"] == np.isfinite(z).sum() < z.size
    for level in LEVELS:
        inside = np.abs(z[np.isfinite(z)]) < stats.norm.ppf((1 + level) / 2)
        row = observed.detail["all"][f"{level:g}"]
        # Each end errs by (level (1 - level) / draws)^.5 in probability, independently.
        error = (2 * level * (1 - level) / 200 / inside.size) ** 0.5 + 1 / inside.size
        assert abs(row["observed"] - inside.mean()) < 6 * error
        assert abs(row["observed"] - level) < 4.5 * row["standard_error"]


def test_a_fault_of_the_ratings_is_found_in_a_run(run):
    found = rated_draws(run)
    prompt = run.some.source.response_prompt
    scaled = rating_coverage(found.drawn, 2 * found.observed, prompt, run.loaded.objectives)
    assert scaled.alarm is True
    assert "Too narrow" in scaled.verdict


def test_a_model_without_ratings_has_none_to_check(run):
    model = small_model(num_objectives=3, latent_dim=3)
    model.ratings = None
    without = replace(run, loaded=replace(run.loaded, model=model))
    assert "without ratings" in run_checks(without, [NAME])[NAME].verdict


def test_the_check_of_simulated_outcomes_says_that_they_are_simulated():
    said = coverage({"delta": np.linspace(0, 1, 100)}).verdict
    assert said.startswith("on outcomes drawn from this model, not on the rows' own,")

import math

import numpy as np
import pytest
from scipy.stats import binom

from vrm_pyro.diagnostics.certificates import (
    binary_kl,
    binary_kl_inverse,
    chernoff_upper,
    clopper_pearson_upper,
    effective_units,
    held_out_bound,
    one_pair_each,
    prompt_means,
)
from vrm_pyro.errors import InputError

DELTA = 0.05


@pytest.mark.parametrize(("errors", "n"), [(0, 10), (3, 17), (200, 2000), (9, 10)])
def test_clopper_pearson_leaves_delta_below(errors, n):
    """At the limit, so few errors or fewer have probability delta exactly."""
    limit = clopper_pearson_upper(errors, n, DELTA)
    assert binom.cdf(errors, n, limit) == pytest.approx(DELTA, abs=1e-9)


def test_clopper_pearson_with_nothing_right():
    assert clopper_pearson_upper(7, 7, DELTA) == 1.0


@pytest.mark.parametrize(
    ("n", "limit"), [(500, 0.125), (1000, 0.117), (2000, 0.1117), (5000, 0.107)]
)
def test_tenth_of_errors(n, limit):
    assert clopper_pearson_upper(n // 10, n, DELTA) == pytest.approx(limit, abs=5e-4)


def test_chernoff_is_above_clopper_pearson():
    for errors, n in ((1, 50), (5, 50), (100, 2000)):
        exact = clopper_pearson_upper(errors, n, DELTA)
        chernoff = chernoff_upper(errors / n, n, DELTA)
        assert exact < chernoff < exact + 0.05


@pytest.mark.parametrize(("risk", "n"), [(0.0, 20), (0.1, 100), (0.4, 37)])
def test_chernoff_spends_delta_on_one_side(risk, n):
    limit = chernoff_upper(risk, n, DELTA)
    assert n * float(binary_kl(risk, limit)) == pytest.approx(-math.log(DELTA), rel=1e-9)


def test_pairs_of_a_prompt_are_one_unit():
    values = np.array([1.0, 0.0, 0.0, 1.0, 0.5])
    weight = np.array([1.0, 1.0, 2.0, 0.0, 1.0])
    prompt = np.array([0, 0, 2, 3, 4])
    assert prompt_means(values, weight, prompt).tolist() == [0.5, 0.0, 0.5]
    assert not one_pair_each(weight, prompt)
    assert one_pair_each(np.array([1.0, 0.0, 2.0]), np.array([0, 0, 1]))


def test_method_follows_the_losses():
    binary = np.array([0.0, 1.0, 0.0, 0.0])
    one = held_out_bound(binary, DELTA, one_pair_each=True)
    several = held_out_bound(binary, DELTA)
    soft = held_out_bound(np.array([0.0, 0.3, 1.0]), DELTA, one_pair_each=True)
    assert one.method == "Clopper-Pearson"
    assert one.value == clopper_pearson_upper(1, 4, DELTA)
    assert several.method == soft.method == "kl (Chernoff)"
    assert several.value == chernoff_upper(0.25, 4, DELTA)
    assert (one.confidence, one.n, one.unit, one.observed) == (0.95, 4, "prompt", 0.25)
    assert "new prompts" in one.statement
    assert held_out_bound(binary, DELTA, loss="brier").loss == "brier"


def test_dependent_prompts_count_for_less():
    losses = np.tile([0.0, 0.0, 0.0, 1.0], 50)
    bound = held_out_bound(losses, DELTA, chi=4, one_pair_each=True)
    assert bound.n == effective_units(200, 4) == 50
    expected = binary_kl_inverse(0.25, math.log(2 * math.sqrt(50) / DELTA) / 50)
    assert bound.value == pytest.approx(expected, abs=1e-12)
    assert bound.method == "kl with n / chi"


def test_families_of_equal_prompts_need_chi():
    """Copies of a prompt carry no news: n / chi keeps the confidence, n does not."""
    rng, family, n, risk = np.random.default_rng(5), 8, 400, 0.3
    drawn = rng.random((1000, n // family)) < risk
    limits = {}
    for chi in (1.0, float(family)):
        limits[chi] = np.array(
            [held_out_bound(np.repeat(d, family).astype(float), DELTA, chi=chi).value
             for d in drawn]
        )  # fmt: skip
    error = math.sqrt(DELTA * (1 - DELTA) / 1000)
    assert (limits[8.0] < risk).mean() <= DELTA + 3 * error
    assert (limits[1.0] < risk).mean() > 2 * DELTA


@pytest.mark.parametrize(
    ("losses", "settings", "words"),
    [
        ([], {}, "no prompt"),
        ([0.0], {"delta": 0.0}, "delta is 0.0"),
        ([0.0], {"delta": 1.0}, "between 0 and 1"),
        ([0.0] * 20, {"chi": 0.5}, "chi is 0.5"),
        ([0.0] * 20, {"chi": 21}, "number of prompts, 20"),
        ([0.0] * 20, {"chi": 4}, "at least 8 independent units, here are 5"),
    ],
)
def test_what_gives_no_bound(losses, settings, words):
    with pytest.raises(InputError, match=words):
        held_out_bound(np.array(losses), **settings)


def test_losses_outside_the_unit_interval():
    with pytest.raises(ValueError, match="must lie in"):
        held_out_bound(np.array([0.0, 1.5]))

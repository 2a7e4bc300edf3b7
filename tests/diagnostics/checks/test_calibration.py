import numpy as np
import pytest
from scipy.special import expit

from vrm_pyro.diagnostics.checks.calibration import calibration, calibration_slope


def pairs(factor=1.0, num=1500, seed=0):
    """Return p, labels, weights and prompts; true logits are the predicted ones times factor."""
    rng = np.random.default_rng(seed)
    delta = 1.5 * rng.standard_normal(num)
    label = (rng.random(num) < expit(factor * delta)).astype(float)
    return expit(delta), label, np.ones(num), np.arange(num) // 3


def test_calibrated_predictions_raise_no_alarm():
    found = calibration(*pairs())
    assert found.alarm is False
    assert abs(found.value - 1) < 4 * found.uncertainty


@pytest.mark.parametrize(
    ("factor", "word"), [(0.5, "overconfident"), (2.0, "underconfident"), (-1.0, "against")]
)
def test_wrong_slopes_are_caught_and_named(factor, word):
    found = calibration(*pairs(factor))
    assert found.alarm is True
    assert word in found.verdict
    assert found.advice
    assert abs(found.value - factor) < 4 * found.uncertainty


def test_standard_error_of_the_slope_is_its_spread():
    slopes, errors = np.array([calibration_slope(*pairs(seed=s, num=600)) for s in range(150)]).T
    assert slopes.std() == pytest.approx(errors.mean(), rel=0.25)


def test_copies_of_a_pair_tell_nothing_new_about_the_slope():
    p, c, _, _ = pairs(num=200)
    once = calibration_slope(p, c, np.ones(200), np.arange(200))
    copied = (np.repeat(part, 3) for part in (p, c, np.ones(200), np.arange(200)))
    assert calibration_slope(*copied) == pytest.approx(once, rel=1e-6)


def test_order_of_a_pair_does_not_matter():
    p, c, w, prompt = pairs(0.7)
    flip = np.random.default_rng(1).random(len(p)) < 0.5
    other = calibration(np.where(flip, 1 - p, p), np.where(flip, 1 - c, c), w, prompt)
    assert other.p_value == pytest.approx(calibration(p, c, w, prompt).p_value)


def test_a_few_prompts_do_not_suffice():
    p, c, w, prompt = pairs(num=30)
    found = calibration(p, c, w, prompt)
    assert not found.applies
    assert "10 prompts" in found.verdict

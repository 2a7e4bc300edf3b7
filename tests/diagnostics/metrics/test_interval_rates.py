"""Interval metrics: by hand, and on labels drawn within and outside their intervals."""

import numpy as np
import pytest

from vrm_pyro.diagnostics.metrics.interval_rates import interval_rates


def test_by_hand():
    """One bin of lower bounds above the share of labels, and a soft label."""
    low, high = np.array([0.62, 0.62, 0.3]), np.array([0.72, 0.72, 0.6])
    found = interval_rates(low, high, np.array([1.0, 0.0, 1.0]), np.ones(3), np.arange(3))
    # Bins of the lower bound in both orders: .62 (labels 1, 0), .3 (1), .28 (0, 1), .4 (0).
    assert found.lower_calibration_error == pytest.approx((2 * (0.62 - 0.5) + 0.4) / 6)
    assert found.upper_calibration_error == pytest.approx(found.lower_calibration_error)
    assert found.confident_true.value == pytest.approx(1 / 3)
    assert found.confident_false.value == pytest.approx(1 / 3)
    soft = interval_rates(low[:1], high[:1], np.array([0.7]), np.ones(1), np.zeros(1, int))
    assert soft.confident_true.value == pytest.approx(0.7)
    assert soft.confident_false.value == pytest.approx(0.3)


def test_bounds_that_hold_have_small_errors():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, 20_000)
    label = (rng.uniform(size=len(p)) < p).astype(float)
    one, prompt = np.ones(len(p)), np.arange(len(p))
    wide = interval_rates(p - 0.05, p + 0.05, label, one, prompt)
    assert wide.lower_calibration_error < 0.005
    sure = np.clip(p + 0.2 * np.sign(p - 0.5), 0.02, 0.98)  # too sure of either side
    off = interval_rates(sure - 0.02, sure + 0.02, label, one, prompt)
    assert off.lower_calibration_error > 0.03
    assert wide.confident_true.value > 3 * wide.confident_false.value


def test_swapping_the_responses_changes_nothing():
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 0.8, 50)
    high, label = low + 0.15, rng.uniform(size=50)
    weight, prompt = rng.uniform(size=50), np.arange(50) // 2
    one = interval_rates(low, high, label, weight, prompt)
    two = interval_rates(1 - high, 1 - low, 1 - label, weight, prompt)
    assert [np.ravel(x) for x in one] == [pytest.approx(np.ravel(x)) for x in two]


def test_points_are_always_confident():
    p = np.array([0.7, 0.2, 0.9])
    found = interval_rates(p, p, np.array([1.0, 0.0, 0.0]), np.ones(3), np.arange(3))
    assert found.confident_true.value == pytest.approx(2 / 3)
    assert found.confident_false.value == pytest.approx(1 / 3)

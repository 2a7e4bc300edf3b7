import numpy as np
import pytest

from vrm_pyro.diagnostics.metrics.temperature import HIGHEST, LOWEST, temperature_scale


def test_recovers_the_temperature_of_simulated_labels():
    rng = np.random.default_rng(0)
    delta = rng.normal(0, 3, 20_000)
    label = (rng.random(20_000) < 1 / (1 + np.exp(-delta / 2.5))).astype(float)
    found = temperature_scale(delta, label)
    # Fisher information of 1 / T, turned into an error of T.
    p = 1 / (1 + np.exp(-delta / 2.5))
    error = 2.5**2 / np.sqrt((delta**2 * p * (1 - p)).sum())
    assert abs(found - 2.5) < 4 * error


def test_is_the_minimum_of_the_weighted_log_loss():
    rng = np.random.default_rng(1)
    delta, label, weight = rng.normal(0, 2, 50), rng.random(50) * 0.5 + 0.4, rng.random(50)

    def loss(t):
        return (weight * (np.logaddexp(0, delta / t) - label * delta / t)).sum()

    best = temperature_scale(delta, label, weight)
    assert all(loss(best) < loss(best * factor) for factor in (0.99, 1.01))


def test_swapping_the_answers_changes_nothing():
    rng = np.random.default_rng(2)
    delta, label = rng.normal(1, 2, 100), rng.integers(0, 2, 100)
    assert temperature_scale(delta, label) == pytest.approx(temperature_scale(-delta, 1 - label))


@pytest.mark.parametrize(
    ("delta", "label", "limit"),
    [([1.0, -2.0], [1, 0], LOWEST), ([1.0, -2.0], [0, 1], HIGHEST), ([0.0, 0.0], [0, 1], HIGHEST)],
)
def test_stays_in_range_where_no_finite_temperature_is_best(delta, label, limit):
    assert temperature_scale(np.array(delta), np.array(label)) == limit

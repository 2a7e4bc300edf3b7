import numpy as np
import pytest
from scipy.stats import binom, norm

from vrm_pyro.diagnostics.metrics.uniformity import uniformity


def test_p_value_is_uniform_and_band_holds_with_its_level():
    """Exact: of 600 sets of uniform numbers, p < .1 in 10% and the band is left in 10%."""
    rng = np.random.default_rng(0)
    found = [uniformity(rng.random(60), 0.1, 25) for _ in range(600)]
    p = np.array([f.p_value for f in found])
    left = np.array([((f.ecdf < f.lower) | (f.ecdf > f.upper)).any() for f in found])
    error = (0.1 * 0.9 / 600) ** 0.5
    # Counts are discrete: level and p-value may be a little on the safe side, never beyond.
    assert 0.05 < (p < 0.1).mean() < 0.1 + 4 * error
    assert 0.05 < left.mean() < 0.1 + 4 * error
    assert abs((p < 0.5).mean() - 0.5) < 4 * (0.25 / 600) ** 0.5 + 0.02


def test_one_point_is_a_binomial_test():
    values = np.array([0.1] * 30 + [0.9] * 10)
    found = uniformity(values, 0.05, num_points=2)
    assert found.ecdf == pytest.approx([0.75])
    assert found.p_value == pytest.approx(2 * binom.sf(29, 40, 0.5), rel=1e-9)


@pytest.mark.parametrize("power", [0.5, 2.0])
def test_other_laws_are_told_apart(power):
    values = np.random.default_rng(1).random(200) ** power
    found = uniformity(values, 0.01)
    assert found.p_value < 1e-6
    assert ((found.ecdf < found.lower) | (found.ecdf > found.upper)).any()


def test_spread_is_seen_in_the_tails():
    """Ranks of the truth in draws with .6 of the right sd: the test that check 11 asks for."""
    truth = np.random.default_rng(2).standard_normal(150)
    assert uniformity(norm.cdf(truth / 0.6), 0.01).p_value < 1e-4
    assert uniformity(norm.cdf(truth), 0.01).p_value > 0.01


@pytest.mark.parametrize("values", [[], [0.5, 1.2], [np.nan]])
def test_no_numbers_in_the_unit_interval_are_refused(values):
    with pytest.raises(ValueError, match="within"):
        uniformity(np.array(values), 0.01)

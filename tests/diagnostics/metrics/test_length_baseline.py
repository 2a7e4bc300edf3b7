import numpy as np
import pytest

from vrm_pyro.diagnostics.metrics.length_baseline import length_baseline


def test_longest_and_shortest():
    first, second = np.array([10, 5, 7, 3]), np.array([2, 9, 7, 1])
    preference, weight = np.array([1.0, 1.0, 1.0, 0.25]), np.array([1.0, 1.0, 2.0, 4.0])
    found = length_baseline(first, second, preference, weight, np.arange(4))
    # right, wrong, equal lengths count 1/2, and a soft label.
    assert found.longest.value == pytest.approx((1 + 0 + 2 * 0.5 + 4 * 0.25) / 8)
    assert found.longest.value + found.shortest.value == pytest.approx(1)
    assert found.longest.standard_error == pytest.approx(found.shortest.standard_error)
    assert found.longest.standard_error > 0

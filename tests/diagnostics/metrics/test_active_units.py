import numpy as np
import pytest

from vrm_pyro.diagnostics.metrics.active_units import active_units
from vrm_pyro.models.reference_kl import weight_threshold


@pytest.mark.parametrize("k", [2, 4, 13])
def test_threshold_is_a_hundredth_of_the_flat_prior(k):
    w = np.random.default_rng(0).dirichlet(np.ones(k), 200_000)
    assert weight_threshold(k) == pytest.approx(0.01 * w.var(axis=0).mean(), rel=0.02)


def test_counts_what_moves():
    rng = np.random.default_rng(1)
    size = 20_000
    z = np.stack([rng.normal(3, 0.15, size), rng.normal(-1, 0.05, size)], axis=1)
    tilt = rng.choice([-0.05, 0.05], size)
    w = np.stack([0.4 + tilt, 0.3 - tilt, np.full(size, 0.2), np.full(size, 0.1)], axis=1)
    found = active_units(w, z)
    assert (found.weights, found.features) == (2, 1)
    assert found.variance_features == pytest.approx([0.15**2, 0.05**2], rel=0.05)
    assert found.variance_weights == pytest.approx([0.05**2, 0.05**2, 0, 0], abs=1e-4)


def test_collapse_is_seen():
    found = active_units(np.full((50, 3), 1 / 3), np.zeros((80, 2)))
    assert (found.weights, found.features) == (0, 0)

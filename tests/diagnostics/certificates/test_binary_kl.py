import math

import numpy as np
import pytest

from vrm_pyro.diagnostics.certificates import binary_kl, binary_kl_inverse


def test_divergence_is_that_of_two_coins():
    q, p = 0.3, 0.8
    expected = q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
    assert float(binary_kl(q, p)) == pytest.approx(expected, abs=1e-15)
    assert binary_kl(np.array([0.0, 1.0, 0.5]), np.array([0.0, 1.0, 0.5])).tolist() == [0, 0, 0]
    assert math.isinf(float(binary_kl(0.5, 1.0)))
    assert float(binary_kl(0.0, 0.25)) == pytest.approx(-math.log(0.75), abs=1e-15)


def test_inverse_is_the_root_above_q():
    for q in (0.0, 1e-9, 1e-3, 0.1, 0.5, 0.9, 0.999):
        for c in (0.0, 1e-12, 1e-6, 1e-3, 0.1, 1.0, 5.0):
            p = binary_kl_inverse(q, c)
            assert q <= p <= 1
            # Where p is within 1e-6 of 1 its own rounding moves kl by more than 1e-10.
            if p < 1 - 1e-6:
                assert float(binary_kl(q, p)) == pytest.approx(c, abs=1e-10)


def test_limits():
    assert binary_kl_inverse(1.0, 0.3) == 1.0
    assert binary_kl_inverse(0.2, math.inf) == 1.0
    assert binary_kl_inverse(0.2, 1e4) == 1.0
    assert binary_kl_inverse(0.2, 0.0) == 0.2
    assert binary_kl_inverse(0.0, 0.3) == pytest.approx(1 - math.exp(-0.3), abs=1e-15)


@pytest.mark.parametrize(("q", "c"), [(-0.1, 1.0), (1.1, 1.0), (0.5, -1.0), (0.5, math.nan)])
def test_what_is_no_loss_or_no_divergence_is_refused(q, c):
    with pytest.raises(ValueError, match="binary_kl_inverse"):
        binary_kl_inverse(q, c)

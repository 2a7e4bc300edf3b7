import math

import pytest

from vrm_pyro.diagnostics.certificates import (
    binary_kl,
    binary_kl_inverse,
    monte_carlo_upper,
    pac_bayes_bound,
    pac_bayes_upper,
)
from vrm_pyro.errors import InputError


@pytest.mark.parametrize(
    ("kl", "n", "limit"),
    [
        (0, 30_000, 0.107),
        (10, 30_000, 0.111),
        (100, 30_000, 0.1275),
        (500, 30_000, 0.164),
        (1000, 30_000, 0.195),
        (5000, 30_000, 0.349),
        (10_000, 30_000, 0.478),
        (100, 10_000, 0.150),
        (1000, 10_000, 0.283),
    ],
)
def test_values_of_the_specification(kl, n, limit):
    assert pac_bayes_upper(0.1, kl, n, 0.05) == pytest.approx(limit, abs=5e-4)


def test_a_grid_costs_its_logarithm():
    one, five = pac_bayes_upper(0.2, 3.0, 100, 0.05), pac_bayes_upper(0.2, 3.0, 100, 0.05, 5)
    assert five == pac_bayes_upper(0.2, 3.0, 100, 0.05 / 5)
    assert five > one
    gap = float(binary_kl(0.2, five) - binary_kl(0.2, one))
    assert gap == pytest.approx(math.log(5) / 100, abs=1e-10)


def test_monte_carlo_correction_shrinks_with_draws():
    values = [monte_carlo_upper(0.2, m, 0.01) for m in (10, 100, 10_000)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(0.2 + math.sqrt(2 * 0.16 * math.log(200) / 1e4), abs=5e-4)


def test_bound_puts_the_parts_together():
    bound = pac_bayes_bound(
        0.2, 3.0, 500, delta=0.05, delta_mc=0.01, num_draws=400, posterior="fitted",
        prior_scale=0.1, num_parameters=7, num_scales=5, num_estimates=2,
    )  # fmt: skip
    upper = binary_kl_inverse(0.2, math.log(2 / (0.01 / 2)) / 400)
    rate = (3.0 + math.log(2 * math.sqrt(500) * 5 / 0.05)) / 500
    assert bound.observed_upper == pytest.approx(upper, abs=1e-12)
    assert bound.value == pytest.approx(binary_kl_inverse(upper, rate), abs=1e-12)
    assert bound.confidence == pytest.approx(0.94)
    assert "Gibbs rule" in bound.statement
    assert "2 x" in bound.statement


def test_brier_needs_no_factor_two():
    bound = pac_bayes_bound(
        0.2, 0.0, 50, delta=0.05, delta_mc=0.01, num_draws=10, posterior="prior",
        prior_scale=0.1, num_parameters=7, loss="brier",
    )  # fmt: skip
    assert "no factor 2" in bound.statement


def test_too_few_units():
    with pytest.raises(InputError, match="at least 8 independent units, here are 7.5"):
        pac_bayes_upper(0.2, 0.0, 7.5, 0.05)


@pytest.mark.parametrize(("risk", "share"), [(0.1, 0.37), (0.05, 0.49), (0.0, 0.69)])
def test_where_the_bound_stops_to_say_anything(risk, share):
    """At a KL of n kl(risk || 1/2), less a term that vanishes with n."""
    n = 10**6
    assert pac_bayes_upper(risk, (share - 0.01) * n, n, 0.05) < 0.5
    assert pac_bayes_upper(risk, (share + 0.01) * n, n, 0.05) > 0.5


def test_draws_and_a_grid_make_it_stop_sooner():
    upper = monte_carlo_upper(0.1, 1000, 0.01 / 2)
    assert (
        pac_bayes_upper(upper, 280, 1000, 0.05, 5)
        < 0.5
        < pac_bayes_upper(upper, 290, 1000, 0.05, 5)
    )

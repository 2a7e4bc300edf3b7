import numpy as np
import pytest
from scipy.special import expit

from vrm_pyro.diagnostics.metrics.identification import weight_standard_errors

WEIGHTS = np.array([0.5, 0.3, 0.15, 0.05])


def differences(num_pairs, correlation=0.0, seed=1):
    """Return d with variance 2 per objective and one correlation between all of them."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((num_pairs, 1)) * correlation**0.5
    own = rng.standard_normal((num_pairs, 4)) * (1 - correlation) ** 0.5
    return 2**0.5 * (common + own)


@pytest.mark.parametrize(
    ("correlation", "scale", "of_weights", "of_scale"),
    [
        (0.0, 3.0, (0.0104, 0.0090, 0.0092, 0.0099), 0.10),
        (0.0, 1.0, (0.0241, 0.0210, 0.0214, 0.0230), 0.053),
        (0.9, 1.0, (0.0717, 0.0715, 0.0713, 0.0717), 0.036),
    ],
)
def test_reference_table(correlation, scale, of_weights, of_scale):
    """Spec 2.8.6 at n = 4000; from more pairs, as the table is the expectation."""
    num_pairs = 400_000
    errors = weight_standard_errors(differences(num_pairs, correlation), WEIGHTS, scale)
    factor = (num_pairs / 4000) ** 0.5
    assert factor * errors.weights == pytest.approx(of_weights, rel=0.02)
    assert factor * errors.scale == pytest.approx(of_scale, rel=0.03)


def test_errors_match_refits():
    """Standard errors are the spread of maximum-likelihood fits over fresh labels."""
    d, gamma, rng = differences(500), 2.0 * WEIGHTS, np.random.default_rng(2)
    fits = []
    for _ in range(200):
        label = rng.random(500) < expit(d @ gamma)
        fit = gamma
        for _ in range(12):  # Newton
            p = expit(d @ fit)
            fit = fit + np.linalg.solve((d * (p * (1 - p))[:, None]).T @ d, d.T @ (label - p))
        fits.append(fit)
    scale = np.sum(fits, axis=1)
    errors = weight_standard_errors(d, WEIGHTS, 2.0)
    # A spread from 200 fits has a relative standard error of 5%.
    assert (np.array(fits) / scale[:, None]).std(0) == pytest.approx(errors.weights, rel=0.2)
    assert scale.std() == pytest.approx(errors.scale, rel=0.2)


def test_correlated_objectives_are_told_apart_worse():
    alike, apart = (
        weight_standard_errors(differences(4000, c), WEIGHTS, 1.0) for c in (0.95, 0.0)
    )
    assert (alike.weights > 3 * apart.weights).all()
    assert apart.condition < 1.5


def test_condition_number_is_that_of_the_tangent():
    """Two contrasts, one seen at ten times the size of the other: information 100 to 1."""
    d = np.array([[10.0, -10.0, 0.0], [1.0, 1.0, -2.0]]) / np.array([[2.0], [6.0]]) ** 0.5
    errors = weight_standard_errors(d, np.full(3, 1 / 3), 1e-6)
    assert errors.condition == pytest.approx(100, rel=1e-6)


def test_pair_weight_counts_pairs():
    d = differences(300)
    doubled = weight_standard_errors(np.concatenate([d, d]), WEIGHTS, 1.5)
    weighted = weight_standard_errors(d, WEIGHTS, 1.5, np.full(300, 2.0))
    assert weighted.weights == pytest.approx(doubled.weights)
    assert weighted.scale == pytest.approx(doubled.scale)


def test_objectives_that_never_differ_are_not_identified():
    d = differences(300)
    d[:, 3] = 0.0
    errors = weight_standard_errors(d, WEIGHTS, 1.5)
    # beta is the sum over all objectives: where one is unknown, so is every share of it.
    assert np.isinf(errors.weights).all()
    assert np.isinf(errors.scale)


def test_copies_of_an_objective_share_their_weight():
    """Only the sum of two copies is identified: the others keep a finite error."""
    d = differences(3000)
    d[:, 3] = d[:, 2]
    errors = weight_standard_errors(d, WEIGHTS, 1.5)
    assert np.isinf(errors.weights[2:]).all()
    assert np.isfinite(errors.weights[:2]).all()
    assert np.isfinite(errors.scale)
    assert np.isinf(errors.condition)


def test_no_pairs_tell_nothing():
    errors = weight_standard_errors(np.zeros((0, 4)), WEIGHTS, 1.0)
    assert np.isinf(errors.weights).all()
    assert np.isinf(errors.condition)


def test_one_objective_has_nothing_to_tell_apart():
    errors = weight_standard_errors(differences(100)[:, :1], np.ones(1), 1.0)
    assert errors.weights == pytest.approx([0.0], abs=1e-12)
    assert errors.condition == 1


@pytest.mark.parametrize(
    ("weights", "scale", "message"),
    [
        (3 * WEIGHTS, 1.0, "sum to 1"),
        (np.array([1.5, -0.5, 0.0, 0.0]), 1.0, ">= 0"),
        (WEIGHTS, 0.0, "scale"),
    ],
)
def test_wrong_arguments(weights, scale, message):
    with pytest.raises(ValueError, match=message):
        weight_standard_errors(differences(10), weights, scale)

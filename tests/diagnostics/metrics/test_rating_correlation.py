import numpy as np
import pytest

from vrm_pyro.diagnostics.metrics.rating_correlation import (
    correlation_difference,
    rating_correlations,
)
from vrm_pyro.diagnostics.metrics.ridge_reference import ridge_ratings


def simulated(rng, num_prompts=60, each=5, r=0.5):
    """Scores and ratings with correlation r, some ratings missing."""
    size = num_prompts * each
    x = rng.standard_normal((size, 2))
    y = r * x + np.sqrt(1 - r**2) * rng.standard_normal((size, 2))
    y[rng.random((size, 2)) < 0.2] = np.nan
    return x, 3 + 0.1 * y, np.repeat(np.arange(num_prompts), each)


def test_correlation_is_that_of_numpy_on_rated_responses():
    x, y, prompt = simulated(np.random.default_rng(0))
    for k, found in enumerate(rating_correlations(x, y, prompt)):
        seen = ~np.isnan(y[:, k])
        assert found.value == pytest.approx(np.corrcoef(x[seen, k], y[seen, k])[0, 1], abs=1e-12)
        assert found.num_ratings == seen.sum()
        assert found.lower < found.value < found.upper


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(200):
        x, y, prompt = simulated(rng)
        inside += [c.lower < 0.5 < c.upper for c in rating_correlations(x, y, prompt, 200)]
    # 80% two-sided; 400 intervals have a standard error of .02.
    assert abs(np.mean(inside) - 0.8) < 0.07


def test_constant_scores_have_no_correlation():
    x, y, prompt = simulated(np.random.default_rng(2))
    x[:, 0] = 0.1
    first, second = rating_correlations(x, y, prompt)
    assert np.isnan(first.value)
    assert np.isfinite(second.value)


def test_difference_is_paired():
    rng = np.random.default_rng(3)
    x, y, prompt = simulated(rng)
    same = correlation_difference(x, 2 * x + 1, y, prompt)
    assert abs(same.difference) < 1e-12
    assert same.standard_error < 1e-12
    worse = correlation_difference(x + rng.standard_normal(x.shape), x, y, prompt)
    assert worse.upper < 0


def test_shapes_are_checked():
    x, y, prompt = simulated(np.random.default_rng(4))
    with pytest.raises(ValueError, match="differ"):
        rating_correlations(x[:-1], y, prompt)


def test_ridge_solves_its_equations_and_picks_the_penalty():
    rng = np.random.default_rng(5)
    slope = rng.standard_normal((4, 2))

    def rows(number):
        x = rng.standard_normal((number, 4))
        return x, 1.5 + x @ slope + 0.5 * rng.standard_normal((number, 2))

    train, validation, (states, _) = rows(200), rows(200), rows(7)
    train[1][:50, 0] = np.nan
    found = ridge_ratings(train, validation, states, [10.0])
    scaled = [(s - train[0].mean(0)) / train[0].std(0) for s in (train[0], states)]
    for k in range(2):
        seen = ~np.isnan(train[1][:, k])
        x, y = scaled[0][seen], train[1][seen, k]
        centred = x - x.mean(0)
        b = np.linalg.solve(centred.T @ centred + 10 * np.eye(4), centred.T @ (y - y.mean()))
        assert np.allclose(found[:, k], y.mean() + (scaled[1] - x.mean(0)) @ b)
    # A penalty that shrinks all to the mean is not chosen.
    assert np.allclose(ridge_ratings(train, validation, states, [1e12, 10.0]), found)


def test_an_objective_without_ratings_is_left_out():
    x, y, prompt = simulated(np.random.default_rng(6))
    states = np.random.default_rng(7).standard_normal((len(y), 3))
    empty = np.column_stack([y[:, 0], np.full(len(y), np.nan)])
    found = ridge_ratings((states, empty), (states, y), states)
    assert np.isfinite(found[:, 0]).all()
    assert np.isnan(found[:, 1]).all()
    first, second = rating_correlations(found, y, prompt)
    assert np.isfinite(first.value)
    assert np.isnan(second.value)
    # Compared by the objective that both have.
    alone = correlation_difference(x[:, :1], found[:, :1], y[:, :1], prompt)
    assert correlation_difference(x, found, y, prompt) == pytest.approx(alone)
    with pytest.raises(ValueError, match="no objective"):
        correlation_difference(x[:, 1:], found[:, 1:], y[:, 1:], prompt)

"""Flips against brute force over the simplex and against two-response closed forms."""

import itertools

import numpy as np
import pytest

from vrm_pyro.prediction.explanation.flip import score_changes, smallest_shift, weight_thresholds


def simplex_grid(steps):
    """All weights of three objectives with entries k / steps."""
    grid = [(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]
    return np.array(grid) / steps


def greedy(weights, gain, lead):
    """Two responses: weight moves to the best objective for the loser, from the worst first."""
    need, moved, best = -lead, 0.0, gain.argmax()
    w = weights.copy()
    for k in np.argsort(gain):
        rate = gain[best] - gain[k]
        if rate <= 0:
            return None
        step = min(w[k], need / rate)
        w[k] -= step
        w[best] += step
        moved, need = moved + step, need - step * rate
        if need <= 1e-12:
            return moved, w
    return None


@pytest.mark.parametrize("seed", range(20))
def test_two_responses_the_shift_is_the_greedy_one(seed):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(4))
    slopes = rng.normal(size=(2, 4))
    # A constant that a Bayesian head may add: reward and w'g need not agree.
    rewards = slopes @ weights + rng.normal(scale=0.05, size=2)
    loser = int(rewards.argmin())
    found = smallest_shift(weights, slopes, rewards, loser)
    expected = greedy(weights, slopes[loser] - slopes[1 - loser], rewards[loser] - rewards.max())
    if expected is None:
        assert found is None
        return
    assert found.response == loser
    assert found.moved == pytest.approx(expected[0], abs=1e-9)
    assert found.weights == pytest.approx(expected[1], abs=1e-8)
    after = rewards + slopes @ (found.weights - weights)
    assert after[0] == pytest.approx(after[1], abs=1e-8)


@pytest.mark.parametrize("seed", range(10))
def test_several_responses_no_grid_point_is_nearer(seed):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(3, 2.0))
    slopes = rng.normal(size=(5, 3))
    rewards = slopes @ weights
    grid = simplex_grid(60)
    winner = (grid @ slopes.T).argmax(1)
    moved = np.abs(grid - weights).sum(1) / 2
    for response in range(5):
        found = smallest_shift(weights, slopes, rewards, response)
        if found is None:
            assert not (winner == response).any()
            continue
        assert found.weights.sum() == pytest.approx(1)
        assert (found.weights > -1e-12).all()
        after = slopes @ found.weights
        assert after[response] == pytest.approx(after.max(), abs=1e-8)
        nearest = moved[winner == response].min(initial=np.inf)
        # The grid is 1/60 wide: it holds a point nearly as near, never a nearer one.
        assert found.moved <= nearest + 1e-9
        if np.isfinite(nearest):
            assert nearest <= found.moved + 2 / 60
        if response == rewards.argmax():
            assert found.moved == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_the_lead_changes_at_the_threshold_and_not_before(seed):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(4))
    slopes = rng.normal(size=(4, 4))
    rewards = slopes @ weights
    leader = int(rewards.argmax())
    found = {(t.objective, t.more): t for t in weight_thresholds(weights, slopes, rewards)}
    assert found
    for k, more in itertools.product(range(4), (True, False)):
        t = np.linspace(weights[k], 1.0 if more else 0.0, 2001)
        others = weights.copy()
        others[k] = 0
        path = np.outer((1 - t) / others.sum(), others)
        path[:, k] = t
        best = (path @ slopes.T).argmax(1)
        lost = np.flatnonzero(best != leader)
        if len(lost) == 0:
            assert (k, more) not in found
            continue
        threshold = found[k, more]
        assert abs(threshold.threshold - t[lost[0]]) <= abs(t[1] - t[0]) + 1e-9
        assert threshold.response == best[lost[0]]
    distances = [abs(t.threshold - weights[t.objective]) for t in found.values()]
    assert distances == sorted(distances)


def test_a_dominated_response_wins_with_no_weights():
    weights, slopes = np.array([0.5, 0.5]), np.array([[2.0, 3.0], [1.0, 2.5]])
    rewards = slopes @ weights
    assert smallest_shift(weights, slopes, rewards, 1) is None
    assert weight_thresholds(weights, slopes, rewards) == []


def test_a_single_objective_has_no_other_weights():
    weights, slopes = np.ones(1), np.array([[2.0], [1.0]])
    assert smallest_shift(weights, slopes, slopes[:, 0], 1) is None
    assert weight_thresholds(weights, slopes, slopes[:, 0]) == []


def test_an_objective_with_all_the_weight_leaves_it_equally():
    weights, slopes = np.array([1.0, 0.0, 0.0]), np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 1.0]])
    thresholds = weight_thresholds(weights, slopes, slopes @ weights)
    (found,) = (t for t in thresholds if t.objective == 0)
    # 1 t = 1.5 (1 - t)
    assert (found.more, found.response) == (False, 1)
    assert found.threshold == pytest.approx(0.6)


def test_score_changes_close_the_gap():
    leverage = np.array([0.5, 2.0, 0.0])
    assert score_changes(leverage, 1.0).tolist() == [2.0, 0.5, np.inf]

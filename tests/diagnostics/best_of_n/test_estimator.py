"""Best-of-n: the estimator against all subsets and against simulation."""

from itertools import combinations

import numpy as np
import pytest

from vrm_pyro.diagnostics.best_of_n.estimator import expected_best, surest_mean


def by_enumeration(score, gold, n):
    """Return the mean over all subsets of n; equal best scores share."""
    values = []
    for subset in combinations(range(len(score)), n):
        held = np.array(subset)
        best = held[score[held] == score[held].max()]
        values.append(gold[best].mean())
    return np.mean(values)


@pytest.mark.parametrize("ties", [False, True])
def test_it_is_the_mean_over_all_subsets(ties):
    rng = np.random.default_rng(3)
    score, gold = rng.normal(size=7), rng.normal(size=7)
    if ties:
        score = score.round()
    expected = [by_enumeration(score, gold, n) for n in range(1, 8)]
    assert expected_best(score, gold, 7) == pytest.approx(expected, abs=1e-12)
    assert expected_best(score, gold, 3) == pytest.approx(expected[:3], abs=1e-12)


def test_it_is_unbiased_for_fresh_candidates():
    """The mean over groups of 16 is the expectation of the best of 4 fresh candidates."""
    rng = np.random.default_rng(0)

    def draw(shape):
        score = rng.normal(size=shape)
        return score, 0.6 * score + 0.8 * rng.normal(size=shape)

    scores, golds = draw((1500, 16))
    found = np.array([expected_best(s, g, 4)[-1] for s, g in zip(scores, golds, strict=True)])
    fresh_scores, fresh = draw((40_000, 4))
    truth = fresh[np.arange(len(fresh)), fresh_scores.argmax(1)]
    error = np.hypot(found.std() / len(found) ** 0.5, truth.std() / len(truth) ** 0.5)
    assert abs(found.mean() - truth.mean()) < 4 * error
    plain = golds[:, :4][np.arange(1500), scores[:, :4].argmax(1)]
    assert found.std() < 0.75 * plain.std()  # it uses all 16


def test_many_candidates_stay_exact():
    """By gold itself, the best of all is the maximum and the best of one the mean."""
    gold = np.random.default_rng(1).normal(size=1000)
    found = expected_best(gold, gold, 1000)
    assert found[-1] == pytest.approx(gold.max())
    assert found[0] == pytest.approx(gold.mean())
    assert (np.diff(found) > -1e-9).all()


def test_surest_mean_takes_a_level_in_part():
    values = np.array([4.0, 2.0, 0.0])
    sure = np.array([1.0, 1.0, 0.0])
    weight = np.array([1.0, 1.0, 2.0])
    found = surest_mean(sure, values, weight, np.array([0.25, 0.5, 0.75, 1.0]))
    assert found == pytest.approx([3, 3, 2, 1.5])

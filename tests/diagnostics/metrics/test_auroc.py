import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm

from vrm_pyro.diagnostics.metrics.auroc import auroc, auroc_estimate


def test_it_is_the_mann_whitney_statistic_with_ties():
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 8, 60).astype(float), rng.uniform(size=60) < 0.4
    u = mannwhitneyu(score[positive], score[~positive]).statistic
    assert auroc(score, positive) == pytest.approx(u / (positive.sum() * (~positive).sum()))


def test_by_hand():
    positive = np.array([True, False, True, False])
    assert auroc(np.array([2.0, 1.0, 4.0, 3.0]), positive) == 0.75
    assert auroc(np.array([3.0, 1.0, 4.0, 2.0]), positive) == 1
    assert auroc(np.ones(4), positive) == 0.5


def test_weights_are_copies():
    rng = np.random.default_rng(1)
    score, positive = rng.normal(size=30), np.arange(30) < 12
    times = rng.integers(0, 4, 30)
    copied = auroc(np.repeat(score, times), np.repeat(positive, times))
    assert auroc(score, positive, times) == pytest.approx(copied)


def test_an_empty_group_has_no_rate():
    assert np.isnan(auroc(np.ones(3), np.ones(3, bool)))
    assert np.isnan(auroc(np.arange(3.0), np.array([True, False, False]), np.array([0, 1, 1])))


def test_normal_scores_against_the_closed_form_and_its_spread():
    rng = np.random.default_rng(2)
    positive = np.arange(200) < 100
    found = [
        auroc_estimate(rng.normal(size=200) + positive, positive, np.arange(200), 200, seed)
        for seed in range(60)
    ]
    values = np.array([f.value for f in found])
    truth = norm.cdf(1 / np.sqrt(2))
    assert values.mean() == pytest.approx(truth, abs=4 * values.std() / np.sqrt(60))
    # The spread of 60 values is known to 9%, the bootstrap's mean far better.
    assert np.mean([f.standard_error for f in found]) == pytest.approx(values.std(), rel=0.35)


def test_unit_is_the_prompt():
    rng = np.random.default_rng(3)
    score, positive = rng.normal(size=40), np.arange(40) < 20
    single = auroc_estimate(score, positive, np.arange(40))
    copied = auroc_estimate(score.repeat(9), positive.repeat(9), np.arange(40).repeat(9))
    assert copied.value == pytest.approx(single.value)
    assert copied.standard_error == pytest.approx(single.standard_error, rel=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="3 scores, 2 groups"):
        auroc(np.ones(3), np.ones(2, bool))
    with pytest.raises(ValueError, match="pair 1 is NaN"):
        auroc(np.array([0.0, np.nan]), np.array([True, False]))

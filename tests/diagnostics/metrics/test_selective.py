"""Accuracy on the surest pairs."""

import numpy as np
import pytest

from vrm_pyro.diagnostics.metrics.pair_metrics import surest_half_accuracy
from vrm_pyro.diagnostics.metrics.selective import selective_accuracy

COVERAGE = np.linspace(0.1, 1.0, 10)


def data(num_prompts=400, seed=0):
    """Calibrated predictions: the label is drawn with the probability itself."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.02, 0.98, 3 * num_prompts)
    label = (rng.random(len(p)) < p).astype(float)
    return p, label, np.ones(len(p)), np.repeat(np.arange(num_prompts), 3)


def test_by_hand():
    p = np.array([0.9, 0.2, 0.6, 0.5])
    label = np.array([1.0, 1.0, 1.0, 1.0])  # right, wrong, right, a tie
    found = selective_accuracy(
        p, label, np.ones(4), np.arange(4), np.array([0.25, 0.375, 0.5, 0.75, 1.0])
    )
    assert found.accuracy == pytest.approx([1.0, 1 / 1.5, 0.5, 2 / 3, 2.5 / 4])


def test_the_half_is_that_of_the_metrics():
    p, label, weight, prompt = data()
    weight = np.random.default_rng(1).uniform(0, 2, len(p))
    found = selective_accuracy(p, label, weight, prompt, np.array([0.5]))
    assert found.accuracy[0] == pytest.approx(surest_half_accuracy(p, label, weight))


def test_intervals_cover_the_accuracy_of_calibrated_predictions():
    # Of uniform p, the surest share c has |p - 1/2| above .48 (1 - c): on the mean,
    # accuracy 1/2 + .48 (1 - c / 2).
    truth = 0.5 + 0.48 * (1 - COVERAGE / 2)
    inside = []
    for seed in range(20):
        found = selective_accuracy(*data(seed=seed), COVERAGE)
        inside.append((found.lower <= truth) & (truth <= found.upper))
    # 90% intervals, 20 runs: below 12 of 20 happens with probability 1e-4.
    assert (np.sum(inside, axis=0) >= 12).all()


def test_one_prompt_has_no_interval():
    p, label, weight, _ = data(4)
    found = selective_accuracy(p, label, weight, np.zeros(12, dtype=int), COVERAGE)
    assert np.isnan(found.lower).all()
    assert np.isfinite(found.accuracy).all()

import numpy as np
import pytest

from vrm_pyro.diagnostics.metrics.bootstrap import (
    Difference,
    paired_bootstrap,
    paired_statistic,
    prompt_bootstrap,
)
from vrm_pyro.diagnostics.metrics.pair_metrics import (
    cluster_mean,
    expected_calibration_error,
    log_loss_values,
)


def clustered(rng, num_prompts=60):
    """Return values of two models and prompts: levels and gaps are those of the prompt."""
    prompt = np.repeat(np.arange(num_prompts), rng.integers(1, 6, num_prompts))
    shared = rng.normal(0, 1, num_prompts)[prompt]
    gap = rng.normal(0.1, 0.4, num_prompts)[prompt]
    noise = rng.normal(0, 0.1, (2, len(prompt)))
    return shared + noise[0] + gap, shared + noise[1], prompt


def test_difference_of_two_models_is_far_better_known_than_each():
    a, b, prompt = clustered(np.random.default_rng(0))
    found = paired_bootstrap(a, b, prompt)
    assert found.difference == pytest.approx((a - b).mean())
    exact = cluster_mean(a - b, np.ones(len(a)), prompt).standard_error
    assert found.standard_error == pytest.approx(exact, rel=0.1)
    # Pairs as units would claim to know it far better.
    alone = cluster_mean(a - b, np.ones(len(a)), np.arange(len(a))).standard_error
    assert alone < 0.7 * exact
    assert found.standard_error < 0.5 * cluster_mean(a, np.ones(len(a)), prompt).standard_error


def test_one_sided_limits_cover_as_promised():
    rng = np.random.default_rng(1)
    found = [paired_bootstrap(*clustered(rng), num_draws=300, level=0.9) for _ in range(400)]
    below = np.mean([f.lower < 0.1 for f in found])
    above = np.mean([f.upper > 0.1 for f in found])
    # Standard error sqrt(.9 * .1 / 400) = .015; limits are a little narrow at 60 prompts.
    assert 0.84 < below < 0.95
    assert 0.84 < above < 0.95


def test_seed_fixes_the_draws():
    a, b, prompt = clustered(np.random.default_rng(2))
    assert paired_bootstrap(a, b, prompt, seed=3) == paired_bootstrap(a, b, prompt, seed=3)
    assert paired_bootstrap(a, b, prompt, seed=3) != paired_bootstrap(a, b, prompt, seed=4)


def test_weights_count():
    a, b, prompt = np.array([1.0, 0.0]), np.array([0.0, 0.0]), np.array([0, 1])
    found = paired_bootstrap(a, b, prompt, weight=np.array([3.0, 1.0]))
    assert found.difference == 0.75


def test_a_model_never_differs_from_itself():
    rng = np.random.default_rng(5)
    p, c = rng.uniform(0, 1, 200), rng.integers(0, 2, 200).astype(float)
    prompt = np.arange(200) // 4
    same = paired_statistic(
        lambda w: expected_calibration_error(p, c, w),
        lambda w: expected_calibration_error(p, c, w),
        np.ones(200),
        prompt,
        num_draws=50,
    )
    assert same[:4] == (0, 0, 0, 0)


def test_statistic_of_a_mean_equals_the_closed_form():
    rng = np.random.default_rng(6)
    p, c = rng.uniform(0.05, 0.95, 100), rng.integers(0, 2, 100).astype(float)
    prompt = np.arange(300) // 3
    values, weight = log_loss_values(p, c)[prompt], np.ones(300)  # three pairs tell one story
    draws = prompt_bootstrap(lambda w: np.average(values, weights=w), weight, prompt, 1000)
    exact = cluster_mean(values, weight, prompt)
    assert draws.std() == pytest.approx(exact.standard_error, rel=0.1)


def test_standard_error_is_the_sample_s():
    found = Difference.of_draws(2.0, np.array([1.0, 3.0]), 0.9)
    assert found.standard_error == pytest.approx(2**0.5)


def test_refuses_arrays_of_different_length():
    with pytest.raises(ValueError, match="each pair needs one of each"):
        paired_bootstrap(np.ones(3), np.ones(3), np.arange(2))

import numpy as np
import pytest

from vrm_pyro.diagnostics.metrics.bootstrap import prompt_bootstrap
from vrm_pyro.diagnostics.metrics.pair_metrics import (
    accuracy,
    accuracy_at_50,
    accuracy_values,
    brier,
    cluster_mean,
    ece,
    expected_calibration_error,
    log_loss,
    log_loss_values,
    pair_metrics,
    surest_half_accuracy,
)


def simulate(rng, num_prompts=80, max_pairs=6, spread=1.0, shift=1.0, stretch=1.5):
    """Clustered pairs: logits share a part within a prompt; the model is overconfident."""
    counts = rng.integers(1, max_pairs + 1, num_prompts)
    prompt = np.repeat(np.arange(num_prompts), counts)
    logit = shift + rng.normal(0, spread, num_prompts)[prompt] + rng.normal(0, 0.5, len(prompt))
    # Labels of a prompt are dependent beyond the logit, as annotators' tastes are.
    taste = rng.normal(0, 2.0, num_prompts)[prompt]
    label = (rng.random(len(prompt)) < 1 / (1 + np.exp(-logit - taste))).astype(float)
    return 1 / (1 + np.exp(-stretch * logit)), label, np.ones(len(prompt)), prompt


def test_values_by_hand():
    p = np.array([0.9, 0.2, 0.5, 0.6])
    c = np.array([1.0, 1.0, 1.0, 0.25])
    w = np.array([1.0, 2.0, 1.0, 4.0])
    prompt = np.array([0, 0, 1, 2])
    # 1 right, 2 wrong, a tie, and a soft label: expectation over its draw.
    assert accuracy(p, c, w, prompt).value == pytest.approx((1 + 0 + 0.5 + 4 * 0.25) / 8)
    nats = [-np.log(0.9), -np.log(0.2), np.log(2), -0.25 * np.log(0.6) - 0.75 * np.log(0.4)]
    assert log_loss(p, c, w, prompt).value == pytest.approx((w * nats).sum() / 8)
    squares = [0.01, 0.64, 0.25, 0.25 * 0.16 + 0.75 * 0.36]
    assert brier(p, c, w, prompt).value == pytest.approx((w * squares).sum() / 8)


def test_ratio_estimator_by_hand():
    values, weight = np.array([1.0, 0.0, 1.0]), np.array([1.0, 1.0, 2.0])
    found = cluster_mean(values, weight, np.array([7, 7, 9]))
    # T = (1, 2), W = (2, 2), R = 3/4: residuals -1/2 and 1/2; G/(G-1) = 2.
    assert found.value == 0.75
    assert found.standard_error == pytest.approx(np.sqrt(2 * 0.5) / 4)


def test_standard_error_of_a_plain_mean_is_the_textbook_s():
    values = np.array([1.0, 4.0, 4.0, 9.0])
    found = cluster_mean(values, np.ones(4), np.arange(4))
    assert found.standard_error == pytest.approx(values.std(ddof=1) / 2)
    # The bootstrap divides by one less than its draws too.
    p, c, prompt = np.array([0.9, 0.6, 0.7]), np.array([1.0, 0.0, 1.0]), np.arange(3)

    def error(weight):
        return expected_calibration_error(p, c, weight)

    draws = prompt_bootstrap(error, np.ones(3), prompt, num_draws=4, seed=2)
    found = ece(p, c, np.ones(3), prompt, num_draws=4, seed=2)
    assert found.standard_error == pytest.approx(draws.std(ddof=1))


def test_swapping_the_answers_changes_nothing():
    p, c, w, prompt = simulate(np.random.default_rng(0))
    first = pair_metrics(p, c, w, prompt)
    second = pair_metrics(1 - p, 1 - c, w, prompt)
    for a, b in zip(first, second, strict=True):
        assert a == pytest.approx(b)


def test_order_of_rows_and_ties_change_nothing():
    rng = np.random.default_rng(1)
    p, c, w, prompt = simulate(rng)
    p = np.round(p, 1)  # many ties
    order = rng.permutation(len(p))
    first = pair_metrics(p, c, w, prompt)
    second = pair_metrics(p[order], c[order], w[order], prompt[order])
    for a, b in zip(first, second, strict=True):
        assert a == pytest.approx(b)


def test_integer_weights_are_copies():
    rng = np.random.default_rng(2)
    p, c, _, prompt = simulate(rng)
    w = rng.integers(0, 4, len(p)).astype(float)
    rows = np.repeat(np.arange(len(p)), w.astype(int))
    ones = np.ones(len(rows))
    weighted = pair_metrics(p, c, w, prompt)
    copied = pair_metrics(p[rows], c[rows], ones, prompt[rows])
    assert weighted.num_pairs == (w > 0).sum()
    for name in ("accuracy", "log_loss", "brier", "ece", "accuracy_at_50"):
        assert getattr(weighted, name).value == pytest.approx(getattr(copied, name).value), name
    assert weighted.log_loss.standard_error == pytest.approx(copied.log_loss.standard_error)


@pytest.mark.parametrize("metric", [accuracy, log_loss, brier])
def test_standard_errors_are_the_spread_over_data_sets(metric):
    rng = np.random.default_rng(3)
    found = [metric(*simulate(rng)) for _ in range(500)]
    spread = np.std([f.value for f in found], ddof=1)
    claimed = np.mean([f.standard_error for f in found])
    # The spread itself is known to 1 / sqrt(2 * 500) = 3%; the claim is low by about 1 / prompts.
    assert 0.88 < claimed / spread < 1.12
    # Treating pairs as independent would claim less: the test can tell.
    p, c, w, _ = simulate(rng, num_prompts=4000)
    naive = metric(p, c, w, np.arange(len(p))).standard_error * np.sqrt(4000 / 80)
    assert naive / spread < 0.8


@pytest.mark.parametrize("metric", [ece, accuracy_at_50])
def test_bootstrap_errors_are_the_spread_over_data_sets(metric):
    rng = np.random.default_rng(4)
    num = 250
    found = [
        metric(*simulate(rng, num_prompts=150, stretch=3.0), num_draws=100) for _ in range(num)
    ]
    spread = np.std([f.value for f in found], ddof=1)
    claimed = np.mean([f.standard_error for f in found])
    # The spread is known to 4.5%, and the bootstrap of a sum of absolute values is not exact.
    assert 0.8 < claimed / spread < 1.25


def test_calibration_error_is_the_gap_in_bins_of_equal_weight():
    rng = np.random.default_rng(5)
    confidence = np.sort(rng.uniform(0.51, 1, 1500))
    right = rng.random(1500) < 0.6
    # Which answer stands first is random: p and label flip together.
    flip = rng.random(1500) < 0.5
    p = np.where(flip, 1 - confidence, confidence)
    c = np.where(flip, ~right, right).astype(float)
    expected = np.mean(
        [abs(confidence[b].mean() - right[b].mean()) for b in np.array_split(np.arange(1500), 15)]
    )
    assert expected_calibration_error(p, c, np.ones(1500)) == pytest.approx(expected)


def test_perfect_calibration_has_a_small_error_and_constant_labels_do_not_hide_it():
    rng = np.random.default_rng(6)
    confidence = rng.uniform(0.5, 1, 60_000)
    right = rng.random(60_000) < confidence
    # As rows come: the chosen answer stands first, so every label is 1.
    p = np.where(right, confidence, 1 - confidence)
    assert expected_calibration_error(p, np.ones(60_000), np.ones(60_000)) < 0.012
    halved = 0.5 + (p - 0.5) / 2
    assert expected_calibration_error(halved, np.ones(60_000), np.ones(60_000)) == pytest.approx(
        0.125, abs=0.01
    )


def test_surest_half():
    p = np.array([0.99, 0.02, 0.6, 0.45])
    c = np.array([1.0, 1.0, 0.0, 0.0])
    assert accuracy_at_50(p, c, np.ones(4), np.arange(4)).value == 0.5
    # A tie at the cut counts in part: one sure hit, half of the two at 0.7.
    p, c = np.array([0.9, 0.7, 0.3, 0.6]), np.array([1.0, 1.0, 1.0, 0.0])
    assert accuracy_at_50(p, c, np.ones(4), np.arange(4)).value == 0.75
    assert surest_half_accuracy(p, c, np.ones(4)) == 0.75
    # Half of a weight of 6: the sure hit counts 3 and is all there is.
    assert surest_half_accuracy(p, c, np.array([3.0, 1.0, 1.0, 1.0])) == 1
    assert np.isnan(surest_half_accuracy(p, c, np.zeros(4)))


def test_one_prompt_has_no_standard_error():
    found = pair_metrics(np.array([0.7, 0.6]), np.ones(2), np.ones(2), np.zeros(2, int))
    assert np.isnan(found.accuracy.standard_error)
    assert np.isnan(found.ece.standard_error)
    assert found.accuracy.value == 1


def test_certain_and_wrong_is_finite_and_rounding_is_a_tie():
    assert log_loss_values(np.array([0.0]), np.array([1.0]))[0] == pytest.approx(24 * np.log(2))
    near = np.array([0.5 + 1e-8, 0.5 - 1e-8])
    assert (accuracy_values(near, np.array([1.0, 0.0])) == 0.5).all()
    apart = np.array([0.5 + 2e-6, 0.5 - 2e-6])
    assert (accuracy_values(apart, np.array([1.0, 0.0])) == 1.0).all()


@pytest.mark.parametrize("bad", [np.nan, 1.2, -0.1])
def test_refuses_what_is_no_probability(bad):
    with pytest.raises(ValueError, match="p_first of pair 1"):
        pair_metrics(np.array([0.5, bad]), np.ones(2), np.ones(2), np.arange(2))


def test_refuses_arrays_of_different_length():
    with pytest.raises(ValueError, match="lengths"):
        pair_metrics(np.ones(3), np.ones(2), np.ones(3), np.arange(3))

import numpy as np
import pytest

from vrm_pyro.diagnostics.metrics.monotone_error import monotone_error


def problem(rng, sizes, slope, shared=0.0):
    """Return p, labels and prompts; errors of a prompt go together by ``shared``."""
    prompt = np.repeat(np.arange(len(sizes)), sizes)
    level = rng.uniform(0.5, 1, len(sizes))[prompt]
    confidence = np.clip(level + rng.uniform(-0.05, 0.05, len(prompt)), 0.5, 1)
    difficulty = rng.normal(0, shared, len(sizes))[prompt]
    chance = 1 / (1 + np.exp(slope * (confidence - 0.75) + difficulty))
    label = (rng.uniform(size=len(prompt)) >= chance).astype(float)
    return confidence, label, prompt


def test_fit_is_the_best_falling_step_function():
    p = np.array([0.6, 0.7, 0.8, 0.9])
    label = np.array([0.0, 1.0, 0.0, 1.0])  # errors 1, 0, 1, 0: the middle two are pooled
    found = monotone_error(p, label, np.arange(4), num_permutations=0)
    assert found.confidence == pytest.approx(p)
    assert found.error_rate == pytest.approx([1, 0.5, 0.5, 0])
    assert found.explained == pytest.approx(0.5)  # (1/4 + 0 + 0 + 1/4) / 1


def test_small_case_against_all_permutations():
    p, label = np.array([0.6, 0.7, 0.8, 0.9]), np.array([0.0, 0.0, 1.0, 1.0])
    found = monotone_error(p, label, np.arange(4), num_permutations=20_000)
    # Only 1 of the 6 arrangements of two errors is as ordered. sd sqrt(1/6 5/6 / 20000) = .0026.
    assert found.explained == pytest.approx(1)
    assert found.p_value == pytest.approx(1 / 6, abs=0.013)


def test_rising_errors_are_no_evidence():
    p, label = np.linspace(0.55, 0.95, 40), (np.arange(40) < 20).astype(float)
    found = monotone_error(p, label, np.arange(40), num_permutations=99)
    assert found.error_rate == pytest.approx(np.full(40, 0.5))
    assert (found.explained, found.p_value) == (pytest.approx(0, abs=1e-12), 1.0)


def test_swapped_pairs_and_ties_change_nothing():
    rng = np.random.default_rng(3)
    p, label, prompt = problem(rng, np.full(30, 3), 6.0)
    p = np.round(p, 1)
    flip = rng.uniform(size=len(p)) < 0.5
    one = monotone_error(p, label, prompt, 199)
    two = monotone_error(np.where(flip, 1 - p, p), np.where(flip, 1 - label, label), prompt, 199)
    assert two.error_rate == pytest.approx(one.error_rate)
    assert two.p_value == one.p_value
    assert len(one.confidence) == len(np.unique(p))


def test_it_finds_what_is_there():
    rng = np.random.default_rng(4)
    found = monotone_error(*problem(rng, rng.integers(1, 6, 150), 8.0), num_permutations=499)
    assert found.p_value == 1 / 500
    assert found.error_rate[0] > 0.6 > 0.3 > found.error_rate[-1]
    assert (np.diff(found.error_rate) <= 1e-12).all()


def test_p_values_are_uniform_without_relation_though_errors_of_a_prompt_go_together():
    rng = np.random.default_rng(5)
    sizes = np.repeat([1, 2, 5], [10, 10, 20])
    found = [
        monotone_error(*problem(rng, sizes, 0.0, 3.0), num_permutations=39) for _ in range(400)
    ]
    p = np.array([f.p_value for f in found])
    for level in (0.05, 0.25, 0.5):
        # Exact at multiples of 1/40, so 3.5 standard errors is all there is to allow for.
        assert (p <= level).mean() < level + 3.5 * np.sqrt(level * (1 - level) / 400)
    assert (p <= 0.5).mean() > 0.5 - 3.5 * 0.025


def test_pairs_as_units_would_be_wrong_there():
    rng = np.random.default_rng(5)
    sizes = np.full(40, 5)
    p = []
    for _ in range(200):
        confidence, label, _ = problem(rng, sizes, 0.0, 3.0)
        p.append(monotone_error(confidence, label, np.arange(200), 39).p_value)
    assert (np.array(p) <= 0.05).mean() > 0.1


def test_a_prompt_alone_with_its_number_of_pairs_keeps_its_errors():
    p, label = np.array([0.6, 0.7, 0.8]), np.array([0.0, 1.0, 1.0])
    assert monotone_error(p, label, np.array([0, 1, 1]), 50).p_value == 1.0


def test_without_any_error_there_is_nothing_to_explain():
    found = monotone_error(np.array([0.6, 0.9]), np.ones(2), np.arange(2), 20)
    assert (found.explained, found.p_value) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("p", "label", "prompt", "words"),
    [
        ([0.5, 0.6], [1.0], [0, 1], "2 probabilities, 1 preferences"),
        ([], [], [], "one pair is the least"),
        ([0.5, float("nan")], [1.0, 1.0], [0, 1], "pair 1 is nan"),
        ([1.5], [1.0], [0], "pair 0 is 1.5"),
    ],
)
def test_what_is_no_prediction_is_refused(p, label, prompt, words):
    with pytest.raises(ValueError, match=words):
        monotone_error(np.array(p), np.array(label), np.array(prompt))

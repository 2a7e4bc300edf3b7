"""LOO, collapse, units, weights, shuffle, length and shift, each on arrays with known truth."""

import numpy as np
import pytest
from scipy.special import expit

from vrm_pyro.diagnostics.checks.artefacts import artefacts
from vrm_pyro.diagnostics.checks.collapse import collapse
from vrm_pyro.diagnostics.checks.loo import loo_by_prompt
from vrm_pyro.diagnostics.checks.shift import shift
from vrm_pyro.diagnostics.checks.shuffle import shuffle
from vrm_pyro.diagnostics.checks.unit_use import unit_use
from vrm_pyro.diagnostics.checks.weight_evidence import weight_evidence

NUM = 800
PROMPT = np.arange(NUM) // 2
ONES = np.ones(NUM)


def known_scores(seed=0):
    """Return d (N, 3), weights of each pair, p and labels that follow it, beta = 2."""
    rng = np.random.default_rng(seed)
    d = rng.standard_normal((NUM, 3))
    w = rng.dirichlet([1.5, 1.5, 1.5], NUM // 2)[PROMPT]
    p = expit(2 * (w * d).sum(1))
    return d, w, p, (rng.random(NUM) < p).astype(float)


def test_loo_against_a_coin_and_other_models():
    _, _, p, c = known_scores()

    def score(q):
        return np.bincount(PROMPT, c * np.log(q) + (1 - c) * np.log(1 - q))

    coin = np.full(NUM // 2, -2 * np.log(2))
    blunt = expit(0.3 * np.log(p / (1 - p)))
    good = loo_by_prompt(score(p), coin, {"blunt": score(blunt)})
    assert good.alarm is False
    assert good.detail["compare"][0]["model"] == "this model"
    assert good.detail["against"]["blunt"]["difference"] == pytest.approx(
        (score(p) - score(blunt)).sum()
    )
    bad = loo_by_prompt(score(blunt), coin, {"runs/b": score(p)})
    assert bad.alarm is True
    assert "Use runs/b" in bad.advice
    assert [row["model"] for row in bad.detail["compare"]] == ["runs/b", "this model"]
    assert bad.detail["compare"][1]["elpd"] == pytest.approx(score(blunt).sum())
    flipped = loo_by_prompt(score(1 - p), coin)
    assert flipped.alarm is True
    assert "Worse than a coin" in flipped.advice
    assert flipped.detail["compare"] is None


def test_collapse_of_one_block():
    rng = np.random.default_rng(0)
    w, z = rng.dirichlet([2, 2, 2], 200), rng.standard_normal((400, 4))
    assert collapse(w, z).alarm is False
    flat = 1 / 3 + 0.001 * rng.standard_normal((200, 3))
    found = collapse(flat, z)
    assert found.alarm is True
    assert "w is the same on 100% of prompts" in found.verdict
    assert found.value == 1.0
    assert "z is the same" in collapse(w, 0.01 * z).verdict
    given = collapse(None, z, "the same w for all prompts")
    assert given.alarm is False
    assert "the same w for all prompts" in given.verdict


def test_kl_of_each_feature():
    rng = np.random.default_rng(1)
    mean = np.stack([2 * rng.standard_normal(500), np.zeros(500)], 1)
    variance = np.stack([np.full(500, 0.25), np.ones(500)], 1)
    found = unit_use(rng.dirichlet([2, 2], 100), mean, variance, np.full(100, 0.3), ("a", "b"))
    expected = 0.5 * (0.25 + (mean[:, 0] ** 2).mean() - 1 - np.log(0.25))
    assert found.detail["kl_of_feature"] == pytest.approx([expected, 0.0])
    assert found.value == 1
    assert found.alarm is None


def test_weights_that_labels_do_not_ask_for():
    d, w, p, c = known_scores()
    names = ("a", "b", "c")
    subset = ["x" if i % 2 else "y" for i in PROMPT]
    fine = weight_evidence(d, w, 2.0, p, c, ONES, PROMPT, names, subset)
    assert fine.alarm is False
    assert set(fine.detail["by_subset"]) == {"x", "y"}
    assert fine.value == pytest.approx(max(fine.detail["all"]["standard_error"]))
    other = expit(2 * d @ np.array([0.1, 0.8, 0.1]))
    found = weight_evidence(
        d, np.tile([0.1, 0.8, 0.1], (NUM, 1)), 2.0, other, c, ONES, PROMPT, names
    )
    assert found.alarm is True
    assert "more a" in found.verdict
    assert "less b" in found.verdict
    alike = d[:, :1] + 1e-9 * d
    vague = weight_evidence(alike, w, 2.0, p, c, ONES, PROMPT, names)
    assert "do not tell these weights" in vague.verdict


def dealt(d, w, rng):
    orders = [rng.permutation(NUM // 2)[PROMPT] for _ in range(3)]
    of_prompt = w[::2]
    return np.stack([expit(2 * (of_prompt[order] * d).sum(1)) for order in orders])


def test_shuffle_costs_what_the_model_expects():
    d, w, p, c = known_scores()
    rng = np.random.default_rng(2)
    found = shuffle(p, {"w": dealt(d, w, rng)}, c, ONES, PROMPT)
    assert found.alarm is False
    row = found.detail["shuffled"]["w"]
    assert abs(row["rise_in_log_loss"] - row["expected_rise"]) < 4 * row["standard_error"]
    assert row["rise_in_log_loss"] > 0


def test_weights_on_other_rows_are_caught():
    d, w, p, c = known_scores()
    rng = np.random.default_rng(3)
    wrong = dealt(d, w, rng)[0]
    found = shuffle(wrong, {"w": dealt(d, w, rng)}, c, ONES, PROMPT)
    assert found.alarm is True
    assert "same order" in found.advice


def test_weights_that_do_nothing_are_caught():
    d, _, _, c = known_scores()
    p = expit(2 * d.mean(1))
    found = shuffle(p, {"w": np.stack([p, p])}, c, ONES, PROMPT)
    assert found.alarm is True
    assert "do not use w" in found.advice


def test_length_that_labels_follow_and_the_model_does_not():
    d, _, p, c = known_scores()
    rng = np.random.default_rng(4)
    length = 0.5 * rng.standard_normal(NUM)
    values = {"reward": d.sum(1), "feature 0": d[:, 0] + length, "feature 1": d[:, 1]}
    fine = artefacts(length, values, p, c, ONES, PROMPT)
    assert fine.alarm is False
    assert "most in feature 0" in fine.verdict
    rows = fine.detail["partial_correlations"]
    assert rows["feature 0"]["correlation"] == pytest.approx(0.5 / 1.25**0.5, abs=0.1)
    assert abs(rows["feature 1"]["correlation"]) < 4 * rows["feature 1"]["standard_error"]
    liking = np.where(rng.random(NUM) < 0.4, length > 0, c)
    found = artefacts(length, values, p, liking.astype(float), ONES, PROMPT)
    assert found.alarm is True
    assert "underrates length" in found.verdict
    fond = expit(np.log(p / (1 - p)) + 2 * length)
    assert "overrates length" in artefacts(length, values, fond, c, ONES, PROMPT).verdict


def test_partial_correlation_takes_the_label_out():
    """Length and reward both follow the label, and nothing else joins them."""
    rng = np.random.default_rng(5)
    c = (rng.random(NUM) < 0.5).astype(float)
    length, reward = (2 * c - 1 + 0.5 * rng.standard_normal(NUM) for _ in "ab")
    found = artefacts(length, {"reward": reward}, np.full(NUM, 0.5), c, ONES, PROMPT)
    assert np.corrcoef(length, reward)[0, 1] > 0.7
    assert abs(found.value) < 4 * found.uncertainty


def test_labels_that_favour_a_position():
    d, _, p, c = known_scores()
    rng = np.random.default_rng(6)
    length = rng.standard_normal(NUM)
    favoured = np.where(rng.random(NUM) < 0.3, 1.0, c)
    found = artefacts(length, {"reward": d[:, 0]}, p, favoured, ONES, PROMPT)
    assert found.alarm is True
    assert "favour a position" in found.verdict
    chosen_first = artefacts(length, {"reward": d[:, 0]}, p, ONES, ONES, PROMPT)
    assert "cannot be seen" in chosen_first.verdict


def test_shift_between_subsets_and_against_a_reference():
    rng = np.random.default_rng(7)
    subset = ["code" if i % 3 == 0 else "chat" for i in range(300)]
    value = rng.standard_normal(300)
    assert shift({"KL": value}, subset).alarm is False
    code = np.array([name == "code" for name in subset])
    found = shift({"KL": value + code}, subset)
    assert found.alarm is True
    assert "code" in found.verdict
    against = shift({"KL": value + 1}, [""] * 300, {"KL": rng.standard_normal(300)})
    assert against.alarm is True
    assert "training rows" in against.verdict
    assert not shift({"KL": value}, [""] * 300).applies
    missing = np.where(code, np.nan, value)
    assert not shift({"KL": missing}, subset).applies

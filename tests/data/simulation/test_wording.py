import dataclasses
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import norm

from vrm_pyro.data.simulation import wording
from vrm_pyro.data.simulation.kinds import KINDS, OBJECTIVES
from vrm_pyro.data.simulation.phrases import FEATURE_NAMES, PHRASE_BANKS
from vrm_pyro.errors import InputError

NUM_KINDS = len(KINDS)


def test_banks_do_not_share_sentences():
    sentences = [
        s
        for bank in PHRASE_BANKS
        for sentences in (bank.low, bank.middle, bank.high)
        for s in sentences
    ]
    sentences += [s for kind in KINDS for s in kind.remarks]
    assert len(set(sentences)) == len(sentences)


def test_kinds_are_distinct_points_of_the_simplex():
    weights = np.array([kind.weights for kind in KINDS])
    assert weights.shape == (NUM_KINDS, len(OBJECTIVES))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert min(abs(a - b).max() for a, b in combinations(weights, 2)) >= 0.1


def test_slots_are_filled_and_words_are_read():
    kind = np.arange(NUM_KINDS).repeat(40)
    rng = np.random.default_rng(0)
    prompts = wording.write_prompts(rng, kind)
    topics = np.array([prompt.topic for prompt in prompts])
    levels = rng.integers(-2, 3, (len(kind), len(FEATURE_NAMES)))
    responses = wording.write_responses(rng, kind, topics, levels)
    for prompt, response, k in zip(prompts, responses, kind, strict=True):
        topic = KINDS[k].topics[prompt.topic]
        assert topic in prompt.text
        assert topic in response
        assert "{" not in prompt.text + response
        assert 30 <= len(response.split()) <= 120


def test_prompts_are_all_different_up_to_the_capacity_of_the_wording():
    capacity = wording.prompt_capacity(KINDS[0])
    prompts = wording.write_prompts(np.random.default_rng(0), np.zeros(capacity, dtype=np.int64))
    assert len({prompt.text for prompt in prompts}) == capacity


def test_prompts_beyond_the_capacity_are_refused(monkeypatch):
    small = dataclasses.replace(KINDS[0], topics=("one",), situations=("a", "b"))
    monkeypatch.setattr(wording, "KINDS", (small,))
    capacity = wording.prompt_capacity(small)
    with pytest.raises(InputError, match=f"'coding'.* gives {capacity} different"):
        wording.write_prompts(np.random.default_rng(0), np.zeros(capacity + 1, dtype=np.int64))


def test_levels_show_as_sentences_of_their_bank():
    levels = np.array([[2, -2, 0, 1], [-1, 0, 2, -2], [0, 1, -1, 2]])
    kind = np.zeros(3, dtype=np.int64)
    texts = wording.write_responses(np.random.default_rng(3), kind, kind, levels)
    for text, row in zip(texts, levels, strict=True):
        for bank, level in zip(PHRASE_BANKS, row, strict=True):
            counts = [
                sum(s.replace("{thing}", KINDS[0].thing) in text for s in sentences)
                for sentences in (bank.low, bank.middle, bank.high)
            ]
            assert counts == [max(-level, 0), 2 - abs(level), max(level, 0)]


def test_every_sentence_of_a_bank_is_used_about_equally_often():
    n = 6000
    kind = np.zeros(n, dtype=np.int64)
    levels = np.full((n, len(FEATURE_NAMES)), 2)
    texts = wording.write_responses(np.random.default_rng(4), kind, kind, levels)
    for bank in PHRASE_BANKS:
        share = 2 / len(bank.high)
        for sentence in bank.high:
            seen = np.mean([sentence.replace("{thing}", KINDS[0].thing) in t for t in texts])
            assert abs(seen - share) < 4.5 * (share * (1 - share) / n) ** 0.5


def test_levels_keep_the_stated_share_of_a_normal_feature():
    cuts = np.concatenate([[-np.inf], wording.LEVEL_CUTS, [np.inf]])
    p = np.diff(norm.cdf(cuts))
    centre = -np.diff(norm.pdf(cuts)) / p
    assert (p * centre**2).sum() == pytest.approx(0.92, abs=0.001)
    # Optimal thresholds lie half-way between the means of the levels beside them.
    np.testing.assert_allclose(wording.LEVEL_CUTS, (centre[1:] + centre[:-1]) / 2, atol=1e-3)
    levels = wording.feature_levels(np.array([-3.0, -1.0, 0.0, 1.0, 3.0]))
    assert levels.tolist() == [-2, -1, 0, 1, 2]

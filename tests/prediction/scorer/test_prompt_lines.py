"""Responses of a prompt side by side, against what is computed directly."""

import math

import numpy as np
import pytest
import torch
from helpers import tiny_backbones
from helpers.reward_models import loaded_model
from helpers.tiny_backbones import text

from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.rows import load_table
from vrm_pyro.prediction.explanation import decide
from vrm_pyro.prediction.group_rewards import group_rewards
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.prediction.scorer.output_rows import OutputRows

PROMPTS = [text(900 + i, 4) for i in range(4)]


def answers(i, count):
    return [text(1000 + 10 * i + j, 5) for j in range(count)]


def read(rows):
    return load_table(rows, every_row=True)


def group_rows():
    return [
        {"id": f"q{i}", "prompt": p, "responses": answers(i, 2 + i)} for i, p in enumerate(PROMPTS)
    ]


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbones.tiny_backbone()


@pytest.fixture(scope="module")
def scorer(backbone):
    return Scorer(loaded_model(backbone), backbone)


def test_a_line_for_each_row_of_responses(scorer):
    table = read(group_rows())
    found = list(scorer.score_prompts(table, k=2.0))
    assert [line["id"] for line in found] == ["q0", "q1", "q2", "q3"]
    single = {(s["id"], s["response_index"]): s for s in scorer.score_table(table)}
    for i, line in enumerate(found):
        held = line["responses"]
        assert [r["response_index"] for r in held] == list(range(2 + i))
        for r in held:
            expected = single[r["id"], r["response_index"]]
            assert r["reward_mean"] == pytest.approx(expected["reward_mean"], abs=1e-5)
            assert r["reward_sd"] == pytest.approx(expected["reward_sd"], rel=1e-4)
        order = sorted(held, key=lambda r: -r["reward_mean"])
        assert [r["rank"] for r in order] == list(range(1, 3 + i))
        assert sum(r["p_best"] for r in held) == pytest.approx(1, abs=1e-5)
        source = scorer.encode([PROMPTS[i]] * (2 + i), answers(i, 2 + i))
        # As explain has it, by other draws.
        exact = decide(scorer.model, source, num_draws=4000)
        error = np.sqrt(2 * exact.p_best * (1 - exact.p_best) / 4000) + 1e-3
        assert (np.abs(np.array([r["p_best"] for r in held]) - exact.p_best) < 4 * error).all()
        group = group_rewards(scorer.model, PromptDataset(source).batch())
        for r, sd in zip(held, group.sd(), strict=True):
            assert r["lower_bound"] == pytest.approx(r["reward_mean"] - 2 * float(sd), abs=1e-4)


def test_of_two_p_best_is_the_probability_of_a_positive_difference(scorer):
    (line,) = scorer.score_prompts(read(group_rows()[:1]))
    source = scorer.encode([PROMPTS[0]] * 2, answers(0, 2))
    with torch.no_grad():
        loc, variance = scorer.model.eval().reward_mixture(PromptDataset(source).batch(), 4096)
    z = (loc[..., 0] - loc[..., 1]) / variance.sum(-1).sqrt()
    exact = float(torch.special.ndtr(z).mean())
    assert line["responses"][0]["p_best"] == pytest.approx(exact, abs=4 * 0.5 / 4000**0.5)


def test_equal_responses_share_rank_and_chance(scorer):
    one, two = answers(0, 2)
    rows = [{"id": "q", "prompt": PROMPTS[0], "responses": [one, two, one]}]
    (line,) = scorer.score_prompts(read(rows))
    first, other, again = line["responses"]
    assert (first["response_index"], again["response_index"]) == (0, 2)
    same = ("reward_mean", "p_best", "lower_bound", "rank")
    assert [first[key] for key in same] == [again[key] for key in same]
    assert {first["rank"], other["rank"]} in ({1, 2}, {1, 3})
    assert 2 * first["p_best"] + other["p_best"] == pytest.approx(1, abs=1e-5)


def test_rows_of_a_prompt_meet_in_its_line_and_keep_their_ids(scorer):
    one, two, three = answers(1, 3)
    rows = [
        {"id": "a", "prompt": PROMPTS[1], "response": one},
        {"id": "b", "prompt": PROMPTS[2], "response": two},
        {"prompt": PROMPTS[1], "chosen": two, "rejected": three},
    ]
    found = list(scorer.score_prompts(read(rows)))
    assert [line["id"] for line in found] == ["a", "b"]
    named = [(r["id"], r["response_index"]) for r in found[0]["responses"]]
    assert named == [("a", 0), ("pair-2", 0), ("pair-2", 1)]
    alone = found[1]["responses"][0]
    assert (alone["rank"], alone["p_best"]) == (1, 1.0)
    assert alone["lower_bound"] == alone["reward_mean"]


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_shards_hold_whole_prompts_and_give_the_same_lines(scorer, size):
    made = group_rows()
    made.insert(3, {"id": "late", "prompt": PROMPTS[0], "response": answers(0, 3)[2]})
    table = read(made)
    whole = list(scorer.score_prompts(table))
    rows = OutputRows(table, by_prompt=True)
    found = []
    for first, end in rows.shards(size):
        found += scorer.score_prompts(rows.select(first, end))
    assert [line["id"] for line in found] == [line["id"] for line in whole]
    for line, expected in zip(found, whole, strict=True):
        for one, other in zip(line["responses"], expected["responses"], strict=True):
            assert one.keys() == other.keys()
            for key, value in other.items():
                same = value if isinstance(value, str) else pytest.approx(value, abs=1e-4)
                assert one[key] == same, key


def test_the_baseline_is_sure_of_its_order(backbone):
    scorer = Scorer(loaded_model(backbone, architecture="bradley_terry"), backbone)
    for line in scorer.score_prompts(read(group_rows())):
        assert [r["p_best"] == 1.0 for r in line["responses"]] == [
            r["rank"] == 1 for r in line["responses"]
        ]
        assert all(math.isfinite(r["lower_bound"]) for r in line["responses"])

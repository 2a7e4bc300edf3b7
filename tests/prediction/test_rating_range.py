"""Scores outside the range of the training ratings: kept with a run, flagged where scores are."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny_backbones
from helpers.reward_models import OBJECTIVES, loaded_model
from helpers.tiny_backbones import text
from helpers.workspace import lines as read_lines

from vrm_pyro.data.rows import load_table
from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import CONFIG_FILE, load_model, save_model
from vrm_pyro.prediction.explanation.explain import explain
from vrm_pyro.prediction.rating_range import KEY, outside
from vrm_pyro.prediction.score_file import score_file
from vrm_pyro.prediction.scorer import Scorer

PROMPT, RESPONSES = text(0, 6), [text(1, 5), text(2, 9)]


@pytest.fixture(scope="module")
def plain():
    """A scorer whose run does not know the ranges, as one of an earlier version."""
    backbone = tiny_backbones.tiny_backbone()
    return Scorer(loaded_model(backbone), backbone)


@pytest.fixture(scope="module")
def scores(plain):
    """Scores of both responses, (2, K)."""
    return np.array([[line["scores"][n] for n in OBJECTIVES] for line in plain(PROMPT, RESPONSES)])


@pytest.fixture(scope="module")
def ranges(scores):
    """Every score of clarity is above, the second of depth below, safety is unrated."""
    clarity, depth, _ = scores.T
    first, second = depth
    cut = (first + second) / 2
    assert first > second
    return {"clarity": (1.0, float(clarity.min()) - 0.5), "depth": (float(cut), float(first) + 1)}


def flag(name, ranges):
    low, high = ranges[name]
    return {"objective": name, "low": low, "high": high}


@pytest.fixture(scope="module")
def knowing(plain, ranges):
    return Scorer(replace(plain.loaded, rating_ranges=ranges), plain.backbone)


def test_scores_outside_are_told_with_the_range(plain, knowing, ranges):
    first, second = knowing(PROMPT, RESPONSES)
    assert first.pop(KEY) == [flag("clarity", ranges)]
    assert second.pop(KEY) == [flag("clarity", ranges), flag("depth", ranges)]
    assert [first, second] == plain(PROMPT, RESPONSES)  # which says nothing


def test_files_have_a_column_where_ranges_are_known(plain, knowing, ranges, tmp_path, caplog):
    row = {"prompt": PROMPT, "chosen": RESPONSES[0], "rejected": RESPONSES[1]}
    for scorer, told in ((plain, False), (knowing, True)):
        save_model(scorer.loaded, tmp_path / str(told))
        saved = Scorer(load_model(tmp_path / str(told)), scorer.backbone)
        assert saved.loaded.rating_ranges == (ranges if told else {})
        caplog.clear()
        for end in ("jsonl", "parquet"):
            score_file(saved, [row], tmp_path / f"{told}.{end}", cache=False)
        found = pq.read_table(tmp_path / f"{told}.parquet").to_pylist()
        lines = read_lines(tmp_path / f"{told}.jsonl")
        assert [line.get(KEY) for line in lines] == [
            line.get(KEY) if told else None for line in knowing(PROMPT, RESPONSES)
        ]
        assert [line.get(KEY) for line in found] == [line.get(KEY) for line in lines]
        assert ("outside the training ratings" in caplog.text) is told
    assert "of 2 responses" in caplog.text
    assert "clarity 2 (range 1 to " in caplog.text
    assert "depth 1 (range " in caplog.text


def test_explain_says_it_in_words_and_numbers(plain, knowing, ranges, scores):
    found = explain(knowing, PROMPT, RESPONSES, num_draws=100)
    first, second = found.to_json()["responses"]
    assert first[KEY] == [flag("clarity", ranges)]
    assert second[KEY] == [flag("clarity", ranges), flag("depth", ranges)]
    said = " ".join(str(found).split())
    low, high = ranges["depth"]
    assert (
        f"The score of B on `depth`, {scores[1, 1]:.2f}, is below every training rating ({low:g} "
        f"to {high:g})"
    ) in said
    assert "The score of A on `clarity`" in said
    assert "The score of A on `depth`" not in said
    silent = explain(plain, PROMPT, RESPONSES, num_draws=100)
    assert "training rating" not in str(silent)
    assert KEY not in silent.to_json()["responses"][0]


@pytest.mark.parametrize(
    "wrong",
    [[1, 2], {"clarity": [2, 1]}, {"clarity": [1]}, {"tone": [1, 2]}, {"clarity": ["", 2]}],
)
def test_a_damaged_range_is_refused(knowing, wrong, tmp_path):
    save_model(knowing.loaded, tmp_path)
    path = tmp_path / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rating_ranges": wrong}))
    with pytest.raises(InputError, match="rating_ranges"):
        load_model(tmp_path)


def test_objectives_without_a_range_are_never_outside():
    far = np.array([[-1e9, 1e9]])
    assert not outside(far, ("a", "b"), {}).any()
    assert outside(far, ("a", "b"), {"b": (0.0, 1.0)}).tolist() == [[False, True]]


def test_a_table_is_scored_with_flags(knowing):
    rows = load_table([{"prompt": PROMPT, "response": text, "ratings": {}} for text in RESPONSES])
    with torch.no_grad():
        lines = knowing.score_table(rows)
        named = [[item["objective"] for item in line[KEY]] for line in lines]
    assert named == [["clarity"], ["clarity", "depth"]]

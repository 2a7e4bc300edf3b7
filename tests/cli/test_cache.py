"""Verbs find the states that another verb computed, and say which texts were cut."""

import json

from helpers.workspace import succeed


def test_verbs_share_states_until_told_not_to(place, tmp_path, monkeypatch):
    monkeypatch.setenv("VRM_PYRO_CACHE", str(tmp_path / "cache"))
    rows = ("--model", place / "model", "--data", place / "test.jsonl")
    first = succeed("evaluate", *rows, "--out", tmp_path / "1.json")
    assert "computed before" not in first.err
    assert "pair" in first.err
    (entry,) = (tmp_path / "cache").iterdir()
    again = succeed("evaluate", *rows, "--out", tmp_path / "2.json")
    assert f"{entry}: states of these texts were computed before" in again.err
    drawn = succeed("posterior", *rows, "--out", tmp_path / "p.nc", "--draws", 2)
    assert str(entry) in drawn.err
    fresh = succeed("evaluate", *rows, "--out", tmp_path / "3.json", "--no_cache")
    assert "computed before" not in fresh.err
    assert list((tmp_path / "cache").iterdir()) == [entry]
    texts = [json.loads((tmp_path / f"{i}.json").read_text()) for i in (1, 2, 3)]
    assert texts[0] == texts[1] == texts[2]
    scored = succeed("score", *rows, "--out", tmp_path / "scores.jsonl")
    assert "no text cut" in scored.err

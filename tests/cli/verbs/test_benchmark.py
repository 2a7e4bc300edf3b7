"""benchmark: files, table and messages."""

import json

from helpers.benchmark_rows import ROWS
from helpers.workspace import succeed, vrm_pyro, write_rows


def test_benchmark_writes_json_and_scores(place, baseline, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", ROWS["rewardbench2"]())
    files = ("--out", tmp_path / "b.json", "--scores", tmp_path / "s.json")
    using = ("--model", place / "model", "--data", rows, "--against", baseline)
    run = succeed("benchmark", "rewardbench2", *using, *files)
    found = json.loads((tmp_path / "b.json").read_text())
    assert [model["model"] for model in found["models"]] == [str(place / "model"), str(baseline)]
    assert len(json.loads((tmp_path / "s.json").read_text())["scores"]) == found["n_cases"] == 14
    assert "total" in run.out


def test_messages_say_what_is_wrong(place, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", ROWS["rm_bench"]())
    using = ("--model", place / "model", "--data", rows, "--out", tmp_path / "b.json")
    run = vrm_pyro("benchmark", "reward_bench", *using)
    assert run.code == 2
    assert "did you mean 'rewardbench'" in run.err
    run = vrm_pyro("benchmark", "judgebench", *using)
    assert run.code == 2
    assert "10 of 10 rows are not rows of JudgeBench" in run.err
    assert '"source" is missing' in run.err
    assert not (tmp_path / "b.json").exists()

"""The code of docs/tutorials/first_model.md, run from top to bottom on fewer rows."""

from pathlib import Path

import pytest
from helpers.pages import blocks

PAGE = "tutorials/first_model.md"
ROWS, FEWER_ROWS = "PAIRS = 1200\n", "PAIRS = 180\n"


@pytest.mark.slow
def test_the_first_tutorial_runs_from_rows_to_a_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks(PAGE, "python"))
    assert code.count(ROWS) == 1
    names = {}
    exec(compile(code.replace(ROWS, FEWER_ROWS), PAGE, "exec"), names)
    assert capsys.readouterr().out.count("log loss") >= 3  # the run, and both evaluations
    assert {"model.safetensors", "config.yaml"} <= {p.name for p in Path("runs/rated").iterdir()}
    weights, truth = names["weights"], names["truth"]
    assert set(names["kind"].values) <= set(truth["kind"].values)
    assert truth["objective"].values.tolist() == weights["objective"].values.tolist()
    assert weights.sum("objective").values == pytest.approx(1)
    page = Path("report.html").read_text(encoding="utf-8")
    assert "Bradley-Terry" in page
    assert f"of {len(names['diagnosis'])} checks raise an alarm" in page

"""acquire: the file to label, and messages."""

from helpers.tiny_backbones import text
from helpers.workspace import lines, succeed, vrm_pyro, write_rows


def test_acquire_writes_rows_to_label(place, tmp_path):
    unlabelled = [
        {"prompt": text(8000 + i, 5), "responses": [text(8100 + 9 * i + j, 4) for j in range(3)]}
        for i in range(4)
    ]
    rows = write_rows(tmp_path / "rows.jsonl", unlabelled)
    using = ("--model", place / "model", "--data", rows, "--out", tmp_path / "a.jsonl")
    run = succeed("acquire", *using, "--number", 3)
    found = lines(tmp_path / "a.jsonl")
    assert len(found) == 3
    assert {"prompt", "first", "second", "preference", "information"} <= set(found[0])
    assert "3 of 12 pairs" in run.out
    assert vrm_pyro("acquire", *using, "--number", 0).code == 2

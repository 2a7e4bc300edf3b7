"""best-of-n: files, table and messages."""

import json

from helpers.tiny_backbones import text
from helpers.workspace import succeed, vrm_pyro, write_rows


def candidates(path):
    rows = [
        {
            "prompt": text(7000 + i, 5),
            "responses": [text(7100 + 10 * i + j, 4 + j) for j in range(4)],
            "ratings": [{"gold": float((j + i) % 4)} for j in range(4)],
        }
        for i in range(4)
    ]
    return write_rows(path, rows)


def test_best_of_n_writes_json_and_a_figure(place, baseline, tmp_path):
    rows = candidates(tmp_path / "rows.jsonl")
    files = ("--out", tmp_path / "b.json", "--figure", tmp_path / "b.png")
    using = ("--model", place / "model", "--data", rows, "--gold", "gold")
    more = ("--against", baseline, "--validation", rows)
    run = succeed("best-of-n", *using, *more, *files)
    found = json.loads((tmp_path / "b.json").read_text())
    assert found["max_n"] == len(found["rules"]["mean"]["mean"]) == 4
    assert f"{baseline} mean" in found["rules"]
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    assert "lower_bound" in run.out


def test_messages_say_what_is_wrong(place, tmp_path):
    rows = candidates(tmp_path / "rows.jsonl")
    using = ("--model", place / "model", "--data", rows, "--out", tmp_path / "b.json")
    run = vrm_pyro("best-of-n", *using, "--gold", "golden")
    assert run.code == 2
    assert "did you mean 'gold'" in run.err
    assert not (tmp_path / "b.json").exists()

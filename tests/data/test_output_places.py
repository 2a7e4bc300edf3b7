import os

import pytest

from vrm_pyro.data.output_places import refuse_input_as_output
from vrm_pyro.errors import InputError


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with rows, a run with its results, and a store."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "rows.jsonl",
        "data/more.jsonl",
        "run/config.json",
        "run/mine.json",
        "run/f/a.npy",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("out", "inputs", "how"),
    [
        ("rows.jsonl", ["rows.jsonl"], "is"),
        ("./data/../rows.jsonl", [["data/more.jsonl", "rows.jsonl"]], "is"),
        ("data/more.jsonl", ["data/*.jsonl"], "is"),
        ("data", ["data/more.jsonl"], "contains"),
        (".", ["run"], "contains"),
        ("run", ["run"], "is"),
        ("run/config.json", ["run"], "is a file of"),
        ("run/f/a.npy", ["run"], "is a file of"),
        ("store/store.json", [None, "store"], "is a file of"),
    ],
)
def test_what_would_be_lost(place, out, inputs, how):
    with pytest.raises(InputError, match=f"--out .*: {how} .*, which is read"):
        refuse_input_as_output(out, inputs)


@pytest.mark.parametrize(
    ("out", "inputs"),
    [
        (None, ["rows.jsonl"]),
        ("scores.jsonl", ["rows.jsonl", "org/dataset", 3, {"prompt": "rows.jsonl"}]),
        ("run/mine.json", ["run"]),
        ("run/new.json", ["run"]),
        ("data/new", ["data/more.jsonl"]),
        (".", ["org/model"]),
    ],
)
def test_what_is_kept(place, out, inputs):
    refuse_input_as_output(out, inputs)


def test_another_name_of_the_same_file(place):
    os.link("rows.jsonl", "same.jsonl")
    with pytest.raises(InputError, match="is rows.jsonl"):
        refuse_input_as_output("same.jsonl", ["rows.jsonl"])

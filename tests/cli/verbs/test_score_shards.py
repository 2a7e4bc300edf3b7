"""score in shards: killed, resumed, split over processes, merged, refused; JSONL and Parquet."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
from helpers.workspace import everything, lines, rows, succeed, vrm_pyro, write_rows

SMALL = ("--shard_rows", 5, "--dtype", "float32")


def command(place, data, out, *more):
    return ("score", "--model", place / "model", "--data", data, "--out", out, *more)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Comparisons and single responses, some without an id."""
    made = rows(8, seed=5, ratings=False)
    singles = [{"prompt": r["prompt"], "response": r["chosen"], "id": r["id"]} for r in made[::4]]
    for row in made[::3]:
        del row["id"]
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", [*singles, *made])


@pytest.fixture(scope="module")
def whole(place, data, tmp_path_factory):
    """The score file of an uninterrupted run in small shards."""
    out = tmp_path_factory.mktemp("whole") / "s.jsonl"
    run = succeed(*command(place, data, out, *SMALL))
    assert "responses/s" in run.out
    assert "tokens/s" in run.out
    assert os.listdir(out.parent) == ["s.jsonl"]
    return out


def close(found, expected):
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        assert one.keys() == two.keys()
        for key, value in two.items():
            same = value if isinstance(value, str) else pytest.approx(value, rel=1e-4, abs=1e-5)
            assert one[key] == same


def test_shards_give_the_lines_of_one(place, data, whole, tmp_path):
    succeed(*command(place, data, tmp_path / "s.jsonl", "--dtype", "float32"))
    close(lines(whole), lines(tmp_path / "s.jsonl"))


@pytest.mark.slow
def test_a_killed_run_goes_on(place, tmp_path):
    made = write_rows(tmp_path / "many.jsonl", rows(80, seed=6, ratings=False))
    small = ("--shard_rows", 3, "--dtype", "float32")
    out, parts = tmp_path / "s.jsonl", tmp_path / "s.jsonl.parts"
    words = [str(word) for word in command(place, made, out, *small)]
    process = subprocess.Popen(
        [sys.executable, "-m", "vrm_pyro.cli", *words], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(list(parts.glob("part-*"))) < 4:
        assert process.poll() is None, "it was done before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    (parts / ".part-00099.0a1b2c3d.partial.jsonl").write_text("half a li")
    (tmp_path / ".s.0a1b2c3d.partial.jsonl").write_text("half a fi")
    held = {path.name: path.stat().st_mtime_ns for path in parts.glob("part-*")}
    assert 4 <= len(held) < 80
    run = succeed(*command(place, made, out, *small))
    assert f"{len(held)} of 80 shards are there already" in run.err
    assert "480 responses scored" in run.out
    assert sorted(os.listdir(tmp_path)) == ["many.jsonl", "s.jsonl"]
    succeed(*command(place, made, tmp_path / "again.jsonl", *small))
    assert out.read_bytes() == (tmp_path / "again.jsonl").read_bytes()


class TestSplit:
    def test_processes_and_a_merge_give_the_same_file(self, place, data, whole, tmp_path):
        out = tmp_path / "s.jsonl"
        arguments = command(place, data, out, *SMALL)
        split = ("--num_shards", 2)
        run = vrm_pyro(*arguments, *split, "--merge")
        assert (run.code, "no parts to merge" in run.err) == (2, True)
        run = succeed(*arguments, *split, "--shard", 1)
        assert "--merge" in run.out
        assert not out.exists()
        run = vrm_pyro(*arguments, *split, "--merge")
        assert run.code == 2
        assert "3 of 6 parts are missing (0, 2, 4)" in run.err
        succeed(*arguments, *split, "--shard", 0)
        moved = shutil.move(place / "bert", tmp_path / "bert")
        try:
            succeed(*arguments, *split, "--merge")  # needs no backbone
        finally:
            shutil.move(moved, place / "bert")
        assert out.read_bytes() == whole.read_bytes()
        assert os.listdir(tmp_path) == ["s.jsonl"]

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (("--num_shards", 2), "give the index of this process with --shard"),
            (("--num_shards", 2, "--shard", 2), "--shard is 2, but must be from 0 to 1"),
            (("--shard", 1), "--shard is 1, but must be from 0 to 0"),
            (("--num_shards", 0), "--num_shards is 0"),
            (("--shard_rows", 0), "--shard_rows is 0"),
            (("--num_shards", 2, "--shard", 0, "--merge"), "leave --shard out"),
        ],
    )
    def test_options_that_do_not_fit(self, place, data, tmp_path, more, message):
        run = vrm_pyro(*command(place, data, tmp_path / "s.jsonl", *more))
        assert run.code == 2
        assert message in run.err
        assert os.listdir(tmp_path) == []

    def test_a_store_is_not_split(self, place, tmp_path):
        run = vrm_pyro(*command(place, place / "store", tmp_path / "s.jsonl", "--merge"))
        assert run.code == 2
        assert "scored at once" in run.err


class TestMismatch:
    @pytest.fixture
    def half(self, place, data, tmp_path):
        """A run of which one of two processes is done."""
        split = ("--num_shards", 2, "--shard", 0)
        succeed(*command(place, data, tmp_path / "s.jsonl", *SMALL, *split))
        return tmp_path / "s.jsonl"

    def refuse(self, half, words, *messages):
        before = everything(half.parent)
        run = vrm_pyro(*words)
        assert run.code == 2
        for message in (*messages, "--overwrite"):
            assert message in run.err
        assert everything(half.parent) == before

    def test_other_rows(self, place, half):
        other = command(place, place / "test.jsonl", half, *SMALL)
        self.refuse(half, other, "different rows (", "and ids of the rows (")
        self.refuse(half, (*other, "--merge"), "different rows (")

    def test_other_ids(self, place, data, half, tmp_path_factory):
        made = [{**row, "id": "x"} if "id" in row else row for row in lines(data)]
        renamed = write_rows(tmp_path_factory.mktemp("renamed") / "rows.jsonl", made)
        self.refuse(half, command(place, renamed, half, *SMALL), "different ids of the rows (")

    def test_other_settings(self, place, data, half):
        rows_there = command(place, data, half, "--dtype", "float32", "--shard_rows", 6)
        self.refuse(half, rows_there, "different rows in a shard (5 there, 6 here)")
        dtype = command(place, data, half, "--dtype", "bfloat16", "--shard_rows", 5)
        self.refuse(half, dtype, "precision of the backbone (float32 there, bfloat16 here)")

    def test_another_model(self, place, data, half, tmp_path_factory):
        model = shutil.copytree(place / "model", tmp_path_factory.mktemp("other") / "model")
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config, indent=3))
        words = ("score", "--model", model, "--data", data, "--out", half, *SMALL)
        self.refuse(half, words, "different model (")

    def test_overwrite_begins_anew(self, place, half):
        succeed(*command(place, place / "test.jsonl", half, *SMALL, "--overwrite"))
        assert os.listdir(half.parent) == ["s.jsonl"]
        assert len(lines(half)) == 48

    def test_other_files_are_left_alone(self, place, data, tmp_path):
        (tmp_path / "s.jsonl.parts").mkdir()
        (tmp_path / "s.jsonl.parts" / "mine.txt").write_text("keep")
        run = vrm_pyro(*command(place, data, tmp_path / "s.jsonl", *SMALL))
        assert run.code == 2
        assert "holds files already" in run.err
        assert (tmp_path / "s.jsonl.parts" / "mine.txt").read_text() == "keep"

    def test_a_broken_key_is_said(self, place, data, half):
        key = half.with_name("s.jsonl.parts") / "score.json"
        for text in ("{", "[]"):
            key.write_text(text)
            run = vrm_pyro(*command(place, data, half, *SMALL))
            assert run.code == 2
            assert "score.json" in run.err


def test_a_run_that_fails_at_once_leaves_nothing(place, data, tmp_path):
    (tmp_path / "s.jsonl").mkdir()
    run = vrm_pyro(*command(place, data, tmp_path / "s.jsonl"))
    assert run.code == 2
    assert "is a folder" in run.err
    assert os.listdir(tmp_path) == ["s.jsonl"]


class TestParquet:
    def read(self, path):
        return pq.read_table(path).to_pylist()

    def test_it_holds_the_lines(self, place, data, whole, tmp_path):
        succeed(*command(place, data, tmp_path / "s.parquet", *SMALL))
        assert os.listdir(tmp_path) == ["s.parquet"]
        found = self.read(tmp_path / "s.parquet")
        assert {row["id"]: row["p_chosen"] for row in found if row["p_chosen"] is None}
        assert [{k: v for k, v in row.items() if v is not None} for row in found] == lines(whole)

    def test_of_a_store(self, place, tmp_path):
        for name in ("s.parquet", "s.jsonl"):
            succeed(*command(place, place / "store", tmp_path / name))
        found = self.read(tmp_path / "s.parquet")
        assert [{k: v for k, v in r.items() if v is not None} for r in found] == lines(
            tmp_path / "s.jsonl"
        )


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """Rows of several responses without labels, and one more response of the first prompt."""
    made = [
        {"id": f"q{i}", "prompt": row["prompt"], "responses": [row["chosen"], row["rejected"]]}
        for i, row in enumerate(rows(8, seed=5, ratings=False)[::3])
    ]
    made.append({"id": "late", "prompt": made[0]["prompt"], "response": "one more"})
    return write_rows(tmp_path_factory.mktemp("groups") / "rows.jsonl", made)


class TestByPrompt:
    def test_parts_parquet_and_resumed_runs_hold_the_same(self, place, groups, tmp_path):
        per = ("--per", "prompt", "--dtype", "float32")
        out = tmp_path / "whole.jsonl"
        run = succeed(*command(place, groups, out, *per, "--shard_rows", 4))
        assert "8 prompts scored" in run.out
        whole = lines(out)
        assert [line["id"] for line in whole] == [f"q{i}" for i in range(8)]
        assert [r["id"] for r in whole[0]["responses"]] == ["q0", "q0", "late"]
        split = command(place, groups, tmp_path / "s.parquet", *per, "--shard_rows", 4)
        split += ("--num_shards", 2)
        succeed(*split, "--shard", 1)
        succeed(*split, "--shard", 0)
        succeed(*split, "--merge")
        assert pq.read_table(tmp_path / "s.parquet").to_pylist() == whole
        # As if it had been killed: the first part is there, under the same settings.
        again = command(place, groups, tmp_path / "again.jsonl", *per, "--shard_rows", 4)
        succeed(*again, "--num_shards", 2, "--shard", 0)
        other = vrm_pyro(*command(place, groups, tmp_path / "again.jsonl", "--shard_rows", 4))
        assert (other.code, "kind of lines" in other.err) == (2, True)
        assert "shards are there already" in succeed(*again).err
        assert (tmp_path / "again.jsonl").read_bytes() == out.read_bytes()

    @pytest.mark.parametrize(("option", "value"), [("--per", "row"), ("--k", ".nan")])
    def test_what_it_does_not_know_is_refused(self, place, groups, option, value, tmp_path):
        run = vrm_pyro(*command(place, groups, tmp_path / "s.jsonl", option, value))
        assert (run.code, option in run.err) == (2, True)

    def test_a_store_gives_lines_by_prompt_too(self, place, tmp_path):
        succeed(*command(place, place / "store", tmp_path / "s.jsonl", "--per", "prompt"))
        found = lines(tmp_path / "s.jsonl")
        assert [len(line["responses"]) for line in found] == [6] * 24
        assert all(r["rank"] <= 5 for line in found for r in line["responses"])

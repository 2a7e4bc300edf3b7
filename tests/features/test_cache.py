"""States are computed once, found again by texts and backbone, and never trusted when damaged."""

import logging
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers.malformed_stores import small_table
from helpers.tiny_backbones import tiny_backbone

from vrm_pyro.errors import InputError
from vrm_pyro.features import cache
from vrm_pyro.features.memory import encode_table
from vrm_pyro.features.writing import write_store


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty cache of this test alone."""
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def counting(**settings):
    """A backbone and the list of how many sequences each of its calls read."""
    backbone, calls = tiny_backbone(**settings), []
    plain = backbone.pair_states

    def counted(prompts, responses, *rest):
        calls.append(len(prompts) + len(responses))
        return plain(prompts, responses, *rest)

    backbone.pair_states = counted
    return backbone, calls


def entries(folder):
    return sorted(folder.glob("[!.]*"))


def assert_same(found, computed):
    for name in ("prompts", "responses", "table_pairs", "prompt_tokens", "response_tokens"):
        np.testing.assert_array_equal(getattr(found, name), getattr(computed, name))
    assert found.rows.report == computed.rows.report


@pytest.mark.parametrize("kind", ["bert", "qwen3"])
def test_states_are_computed_once(folder, kind, caplog):
    backbone, calls = counting(kind=kind)
    table = small_table()
    computed = encode_table(table, backbone)
    assert not folder.exists()  # without the option nothing is written
    for _ in range(2):
        assert_same(encode_table(table, backbone, cache=True), computed)
    assert len(calls) == 2
    with caplog.at_level(logging.INFO, logger="vrm_pyro"):
        done = []
        again, no_calls = counting(kind=kind)
        found = encode_table(table, again, cache=True, responses_done=done.append)
    assert_same(found, computed)
    assert not no_calls
    assert done == [table.num_responses]
    assert "were computed before (--no_cache" in caplog.text
    assert len(entries(folder)) == 1


def test_other_labels_find_the_states_and_keep_their_pairs():
    backbone, calls = counting()
    table = small_table()
    encode_table(table, backbone, cache=True)
    other = replace(
        table,
        preference=1 - table.preference,
        pair_id=[f"row {i}" for i in range(table.num_pairs)],
    )
    found = encode_table(other, backbone, cache=True)
    assert len(calls) == 1
    np.testing.assert_array_equal(found.preference, 1 - table.preference[found.table_pairs])
    assert found.rows.pair_id[0] == f"row {found.table_pairs[0]}"
    kept = encode_table(other, backbone, cache=True, drop_identical=False)
    assert len(calls) == 1
    assert kept.rows.num_pairs == table.num_pairs


@pytest.mark.parametrize(
    "settings",
    [{"pooling": "last"}, {"max_length": 60}, {"dtype": "bfloat16"}, {"token_budget": 64}],
)
def test_another_backbone_finds_nothing(folder, settings):
    encode_table(small_table(), tiny_backbone(), cache=True)
    backbone, calls = counting(**settings)
    encode_table(small_table(), backbone, cache=True)
    assert len(calls) == 1
    assert len(entries(folder)) == 2


def test_other_texts_find_nothing(folder):
    table = small_table()
    backbone, calls = counting()
    encode_table(table, backbone, cache=True)
    encode_table(table.select_prompts([1, 0]), backbone, cache=True)
    encode_table(replace(table, responses=[*table.responses[:-1], "new"]), backbone, cache=True)
    assert len(calls) == len(entries(folder)) == 3


def cut(entry):
    path = entry / "responses.npy"
    path.write_bytes(path.read_bytes()[:-7])


def lose(entry):
    (entry / "prompt_facts.npy").unlink()


def confuse(entry):
    path = entry / cache.FILE
    path.write_text(path.read_text().replace("mean", "last"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "responses.npy has .* was cut or changed"),
        (lose, "prompt_facts.npy is missing"),
        (confuse, "entry.json belongs to other states"),
    ],
)
def test_a_damaged_or_stale_entry_is_computed_again(folder, caplog, damage, words):
    backbone, calls = counting()
    computed = encode_table(small_table(), backbone, cache=True)
    (entry,) = entries(folder)
    damage(entry)
    assert_same(encode_table(small_table(), backbone, cache=True), computed)
    assert len(calls) == 2
    pattern = re.compile(rf"{words}; the states are computed again")
    assert any(map(pattern.search, caplog.messages))
    assert_same(encode_table(small_table(), backbone, cache=True), computed)
    assert len(calls) == 2  # the entry is whole again


def test_the_least_recently_used_goes_first(folder, monkeypatch):
    table, backbone = small_table(), tiny_backbone()
    parts = [table.select_prompts([i]) for i in range(4)]
    encode_table(parts[0], backbone, drop_identical=False, cache=True)
    (first,) = entries(folder)
    size = sum(file.stat().st_size for file in first.iterdir())
    monkeypatch.setenv(cache.LIMIT_VARIABLE, str(3.2 * size / 1e9))
    names = {0: first}
    for i in (1, 2):
        encode_table(parts[i], backbone, drop_identical=False, cache=True)
        (names[i],) = set(entries(folder)) - set(names.values())
    for age, i in enumerate((2, 1, 0)):  # 0 is the oldest, then 1
        os.utime(names[i] / cache.FILE, (1e9 - age, 1e9 - age))
    encode_table(parts[0], backbone, drop_identical=False, cache=True)  # now the latest
    encode_table(parts[3], backbone, drop_identical=False, cache=True)
    assert names[0].exists()
    assert names[2].exists()
    assert not names[1].exists()
    assert len(list(folder.iterdir())) == 3


def test_more_than_the_limit_is_not_kept(folder, monkeypatch, caplog):
    monkeypatch.setenv(cache.LIMIT_VARIABLE, "0")
    with caplog.at_level(logging.INFO, logger="vrm_pyro"):
        encode_table(small_table(), tiny_backbone(), cache=True)
    assert not folder.exists()
    assert "are not kept: VRM_PYRO_CACHE_GB" in caplog.text
    monkeypatch.setenv(cache.LIMIT_VARIABLE, "plenty")
    with pytest.raises(InputError, match="VRM_PYRO_CACHE_GB is 'plenty', but must be a number"):
        encode_table(small_table(), tiny_backbone(), cache=True)


def test_leftovers_of_killed_processes_are_removed_after_a_day(folder):
    for name, age in ((".old.0.partial", 2e5), (".new.1.partial", 60)):
        (folder / name).mkdir(parents=True)
        when = (folder / name).stat().st_mtime - age
        os.utime(folder / name, (when, when))
    encode_table(small_table(), tiny_backbone(), cache=True)
    assert [path.name for path in folder.glob(".*")] == [".new.1.partial"]


def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "file" / "cache"))
    found = encode_table(small_table(), tiny_backbone(), cache=True)
    assert_same(found, encode_table(small_table(), tiny_backbone()))
    assert "states are not kept for other commands" in caplog.text
    assert "VRM_PYRO_CACHE to a folder" in caplog.text


def test_processes_that_compute_the_same_states_leave_one_entry(folder):
    script = (
        "from helpers.malformed_stores import small_table\n"
        "from helpers.tiny_backbones import tiny_backbone\n"
        "from vrm_pyro.features.memory import encode_table\n"
        "print(encode_table(small_table(), tiny_backbone(), cache=True).responses.sum())\n"
    )
    here = os.path.dirname(os.path.dirname(__file__))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([here, *sys.path])}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = {run.communicate(timeout=120)[0] for run in runs}
    assert [run.returncode for run in runs] == [0, 0]
    assert len(outputs) == 1
    assert len(list(folder.iterdir())) == 1


def test_the_folder_is_under_the_users_cache(monkeypatch):
    monkeypatch.delenv(cache.FOLDER_VARIABLE)
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(cache.cache_folder()) == "/home/someone/.cache/vrm_pyro/states"


def test_shards_of_a_store_are_found_by_a_store_of_the_same_texts(tmp_path, monkeypatch):
    backbone, table = tiny_backbone(), small_table()
    first = write_store(table, backbone, tmp_path / "first", progress=False, cache=True)
    relabelled = replace(table, preference=1 - table.preference)
    monkeypatch.setattr(backbone, "states", None)  # computing again would fail
    second = write_store(relabelled, backbone, tmp_path / "second", progress=False, cache=True)
    for name in ("prompts", "responses"):
        rows = np.arange(getattr(first, name).shape[0])
        assert (getattr(first, name)[rows] == getattr(second, name)[rows]).all()
    assert (second.preference == 1 - first.preference).all()

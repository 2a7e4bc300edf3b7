import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.malformed_stores import STORES, small_store, small_table
from helpers.tiny_backbones import save_tiny_backbone, text, tiny_backbone

from vrm_pyro.backbone import load_backbone
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.rows import load_table
from vrm_pyro.errors import InputError
from vrm_pyro.features.memory import encode_table
from vrm_pyro.features.shards import ShardedArray, save_array
from vrm_pyro.features.store import open_store
from vrm_pyro.features.writing import write_store

ARRAYS = ("response_prompt", "pair_first", "pair_second", "preference", "pair_weight", "ratings")


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


# --- sharded arrays


@pytest.fixture
def sharded(tmp_path):
    whole = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
    paths = [tmp_path / f"{i}.npy" for i in range(4)]
    for i, path in enumerate(paths):
        save_array(path, whole[6 * i : 6 * i + 6])
    return ShardedArray(paths, (23, 3), 6), whole


@pytest.mark.parametrize(
    "rows",
    [
        np.array([22, 0, 7, 7, 5, 6]),
        [3, -1],
        slice(4, 19, 3),
        slice(None),
        np.zeros(0, dtype=np.int64),
        np.arange(23) % 3 == 0,
        np.array([[1, 20], [8, 8]]),
        5,
        np.int64(-23),
    ],
    ids=str,
)
def test_sharded_array_indexes_like_one_array(sharded, rows):
    array, whole = sharded
    expected = whole[np.asarray(rows, dtype=np.int64)] if isinstance(rows, list) else whole[rows]
    np.testing.assert_array_equal(array[rows], expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array))[rows], expected)
    np.testing.assert_array_equal(np.asarray(array), whole)


@pytest.mark.parametrize("row", [23, -24])
def test_sharded_array_refuses_rows_it_lacks(sharded, row):
    with pytest.raises(IndexError, match="23 rows"):
        sharded[0][[0, row]]


# --- a store holds what the backbone says


def test_store_equals_memory_equals_backbone(tmp_path):
    table, backbone = small_table(), tiny_backbone()
    store = write_store(table, backbone, tmp_path / "store", progress=False, shard_rows=4)
    features = encode_table(table, backbone)
    for source in (store, features):
        np.testing.assert_allclose(
            source.prompts[:], backbone.encode_prompts(table.prompts), atol=1e-5
        )
        np.testing.assert_allclose(
            source.responses[:],
            backbone.encode_responses(table.prompts, table.responses, table.response_prompt),
            atol=1e-5,
        )
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(source, name), getattr(table, name))
        assert source.objectives == ("clear", "safe")
        assert source.prompts.shape == (5, 32)
        assert source.responses.shape == (15, 32)
        np.testing.assert_array_equal(source.table_pairs, np.arange(10))
    np.testing.assert_array_equal(store.response_tokens, features.response_tokens)
    tokens = [len(s) for s in backbone.chat.encode(table.prompts)]
    np.testing.assert_array_equal(store.prompt_tokens, tokens)


def test_store_alone_gives_the_table_back(tmp_path):
    table = small_table()
    small_store(tmp_path / "store")
    loaded = open_store(tmp_path / "store").table()
    assert loaded.content_hash() == table.content_hash()
    for name in ("pair_id", "pair_subset", "pair_source", "response_id", "response_subset"):
        assert getattr(loaded, name) == getattr(table, name)
    assert loaded.report.comparisons == table.report.comparisons
    assert loaded.report.absent_objectives == table.report.absent_objectives


def test_store_feeds_batches_and_worker_processes(tmp_path):
    table = small_table()
    store = open_store(small_store(tmp_path / "store"))
    again = pickle.loads(pickle.dumps(store))
    items = [3, 0]
    ours = PromptDataset(again).batch(items)
    theirs = PromptDataset(encode_table(table, tiny_backbone())).batch(items)
    for name, values in ours.as_dict().items():
        torch.testing.assert_close(values, theirs.as_dict()[name], rtol=0, atol=1e-5)
    assert len(pickle.dumps(store)) < 10_000  # paths, not states


def test_large_arrays_stay_on_disk(tmp_path):
    store = open_store(small_store(tmp_path / "store"))
    for name in (*ARRAYS, "table_pairs", "prompt_tokens", "response_tokens"):
        assert not getattr(store, name).flags.owndata
        assert not getattr(store, name).flags.writeable


def test_table_without_pairs_is_stored(tmp_path):
    rows = [{"prompt": "why", "response": text(i, 4), "ratings": {"clear": i}} for i in range(3)]
    store = write_store(load_table(rows), tiny_backbone(), tmp_path / "s", progress=False)
    assert store.pair_first.shape == (0,)
    assert store.ratings.shape == (3, 1)
    assert open_store(tmp_path / "s").table().num_pairs == 0


def test_float16_halves_the_file_and_reads_as_float32(tmp_path):
    table, backbone = small_table(), tiny_backbone()
    store = write_store(table, backbone, tmp_path / "half", progress=False, dtype="float16")
    full = write_store(table, backbone, tmp_path / "full", progress=False)
    assert store.responses[:].dtype == np.float32
    np.testing.assert_allclose(store.responses[:], full.responses[:], rtol=1e-3, atol=1e-4)
    sizes = [os.path.getsize(tmp_path / n / "responses-00000.npy") for n in ("half", "full")]
    assert sizes[0] - 128 == (sizes[1] - 128) / 2


@pytest.mark.parametrize(("value", "message"), [(1e6, "beyond float16"), (np.nan, "not finite")])
def test_states_that_cannot_be_stored_are_refused(tmp_path, value, message):
    backbone = tiny_backbone()
    forward = backbone.model.forward

    def spoilt(**inputs):
        output = forward(**inputs)
        output.last_hidden_state[:, :, 0] = value
        return output

    backbone.model.forward = spoilt
    with pytest.raises(InputError, match=message):
        write_store(small_table(), backbone, tmp_path / "s", progress=False, dtype="float16")


# --- pairs the backbone cannot tell apart, and cuts


def overlong_table():
    same, long = text(1, 150), text(2, 100)
    rows = [
        {"prompt": "why", "chosen": same + " red", "rejected": same + " blue"},  # cut away
        {"prompt": "why", "chosen": "A  bird", "rejected": "a bird"},  # same tokens
        {"prompt": "how", "chosen": "one", "rejected": "two"},
        {"prompt": long, "chosen": "one", "rejected": text(3, 60)},
        {"prompt": text(4, 150), "chosen": "old", "rejected": "new"},
    ]
    return load_table([{**row, "id": str(i)} for i, row in enumerate(rows)])


def test_cuts_and_identical_pairs_are_counted_and_dropped(tmp_path):
    table, backbone = overlong_table(), tiny_backbone()
    store = write_store(table, backbone, tmp_path / "s", progress=False, shard_rows=3)
    for source in (store, encode_table(table, backbone)):
        rows = source.table()
        assert rows.pair_id == ["2", "3", "4"]
        np.testing.assert_array_equal(source.table_pairs, [2, 3, 4])
        np.testing.assert_array_equal(source.pair_first, table.pair_first[2:])
        assert source.responses.shape[0] == table.num_responses
        assert rows.report.dropped == {"identical after tokenizing and cutting": 2}
        assert rows.report.extra == {
            "prompts cut": 1,  # the one of 150 words
            "responses whose prompt was cut": 3,  # of 100 words before 60, of 150 words twice
            "responses cut": 3,  # the two of 151 words, the one of 60 after 64 tokens
        }
    kept = encode_table(table, backbone, drop_identical=False)
    assert len(kept.pair_first) == 5


def test_nothing_left_is_an_error(tmp_path):
    table = load_table([{"prompt": "why", "chosen": "A bird", "rejected": "a bird"}])
    for run in (
        lambda: write_store(table, tiny_backbone(), tmp_path / "s", progress=False),
        lambda: encode_table(table, tiny_backbone()),
    ):
        with pytest.raises(InputError, match="nothing left .*identical after tokenizing"):
            run()


# --- resuming


@contextmanager
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


WRITER = """
import sys, time
sys.path[:0] = {paths!r}
from helpers.malformed_stores import small_table
from vrm_pyro.backbone import load_backbone
from vrm_pyro.features.writing import write_store
backbone = load_backbone({model!r}, max_length=120, dtype="bfloat16")
states = backbone.states
def slowly(*arguments, **options):
    time.sleep(0.1)
    return states(*arguments, **options)
backbone.states = slowly
write_store(small_table(40), backbone, {out!r}, progress=False, shard_rows=8)
"""


def test_killed_run_resumes_to_the_same_bits(tmp_path):
    model = save_tiny_backbone(tmp_path / "model")
    out, straight = tmp_path / "killed", tmp_path / "straight"
    tests = Path(__file__).parents[1]
    program = WRITER.format(paths=[str(tests), str(tests.parent)], model=str(model), out=str(out))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as process:
        deadline = time.monotonic() + 120
        while len(list(out.glob("responses-*[0-9].npy"))) < 5:
            assert process.poll() is None, "the writer ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    done = {p.name: p.stat().st_mtime_ns for p in out.glob("*-*[0-9].npy")}
    assert 5 <= len(done) < 20
    with pytest.raises(InputError, match="not finished .*of 20 shards"):
        open_store(out)
    backbone = load_backbone(str(model), max_length=120, dtype="bfloat16")
    # One thread, as in the writer: how a product is split over threads may change the last bit.
    with one_thread():
        write_store(small_table(40), backbone, out, progress=False, shard_rows=8)
        write_store(small_table(40), backbone, straight, progress=False, shard_rows=8)
    assert files(out) == files(straight)
    assert {name: (out / name).stat().st_mtime_ns for name in done} == done  # kept, not redone


def test_finished_store_is_opened_without_any_work(tmp_path):
    folder, backbone = small_store(tmp_path / "s"), tiny_backbone()
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    backbone.states = None  # would fail if it were called
    store = write_store(small_table(), backbone, folder, progress=False, shard_rows=4)
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    assert store.meta["complete"]


@pytest.mark.parametrize("name", ["responses-00001.npy", "pair_first.npy", "pairs.jsonl"])
def test_damaged_store_is_repaired_to_the_same_bits(tmp_path, name, caplog):
    folder = small_store(tmp_path / "s")
    before = files(folder)
    (folder / name).write_bytes(before[name][:-3])
    with caplog.at_level(logging.WARNING, logger="vrm_pyro"):
        write_store(small_table(), tiny_backbone(), folder, progress=False, shard_rows=4)
    assert files(folder) == before
    assert ("it is computed again" in caplog.text) == name.startswith("responses-")


def test_repeated_texts_in_a_shard_are_encoded_once(tmp_path):
    rows = [
        {"prompt": f"why {case}", "chosen": "red", "rejected": "blue"}
        for case in ("bird", "Bird", "BIRD")
    ]
    backbone = tiny_backbone()
    seen = []
    forward = backbone.model.forward

    def counting(input_ids, **inputs):
        seen.append(len(input_ids))
        return forward(input_ids=input_ids, **inputs)

    backbone.model.forward = counting
    write_store(load_table(rows), backbone, tmp_path / "s", progress=False)
    assert sum(seen) == 3  # one prompt and two responses, though the table has three and six


# --- mismatches


def changed_table():
    return replace(small_table(), preference=np.full(10, 0.5))


@pytest.mark.parametrize(
    ("part", "table", "settings"),
    [
        ("rows", changed_table, {}),
        ("pooling (mean there, last here)", small_table, {"pooling": "last"}),
        ("max length (120 there, 100 here)", small_table, {"max_length": 100}),
        ("backbone weights", small_table, {"kind": "roberta"}),
        ("tokenizer", small_table, {"kind": "roberta"}),
        ("chat template", small_table, {"kind": "llama-chat"}),
        ("precision of the backbone", small_table, {"dtype": "bfloat16"}),
        ("tokens in a batch (2048 there, 99 here)", small_table, {"token_budget": 99}),
        ("rows in a shard (4 there, 5 here)", small_table, {"shard_rows": 5}),
        ("type of the stored numbers", small_table, {"stored": "float16"}),
    ],
)
def test_resuming_with_other_parts_names_them(tmp_path, part, table, settings):
    folder = small_store(tmp_path / "s")
    (folder / "responses-00001.npy").unlink()  # so that there is something to resume
    before = files(folder)
    shard_rows, stored = settings.pop("shard_rows", 4), settings.pop("stored", "float32")
    backbone = tiny_backbone(**settings)

    with pytest.raises(InputError, match="written with different") as info:
        write_store(table(), backbone, folder, progress=False, shard_rows=shard_rows, dtype=stored)
    assert part in str(info.value)
    assert str(folder) in str(info.value)
    assert files(folder) == before


def test_overwriting_replaces_a_store_of_other_content(tmp_path):
    folder = small_store(tmp_path / "s")
    backbone = tiny_backbone(pooling="last")
    store = write_store(small_table(), backbone, folder, progress=False, overwrite=True)
    store.check_key(backbone.key())
    assert sorted(p.name for p in folder.glob("responses-*[0-9].npy")) == ["responses-00000.npy"]


def test_check_key_names_the_part(tmp_path):
    store, backbone = open_store(small_store(tmp_path / "s")), tiny_backbone()
    store.check_key(backbone.key())
    store.check_key({"rows": small_table().content_hash()})
    with pytest.raises(InputError, match=r"different pooling \(mean there, last here\)"):
        store.check_key(tiny_backbone(pooling="last").key())
    with pytest.raises(InputError, match="tokenizer .* and backbone weights"):
        store.check_key(tiny_backbone("roberta").key())


def test_max_length_can_be_given_for_the_store(tmp_path):
    store = write_store(
        small_table(), tiny_backbone(), tmp_path / "s", max_length=16, progress=False
    )
    assert store.meta["key"]["max_length"] == 16
    assert store.response_tokens.max() == 16


def test_foreign_folders_and_stores_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files already"):
        write_store(small_table(), tiny_backbone(), tmp_path, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    folder = small_store(tmp_path / "s")
    with pytest.raises(InputError, match="holds a feature store already"):
        write_store(small_table(), tiny_backbone(), folder, progress=False, resume=False)
    with pytest.raises(InputError, match="is a file"):
        write_store(small_table(), tiny_backbone(), tmp_path / "notes.txt", progress=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"shard_rows": 0}, "shard_rows is 0"), ({"dtype": "float64"}, "dtype is 'float64'")],
)
def test_bad_settings_are_refused(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        write_store(small_table(), tiny_backbone(), tmp_path / "s", progress=False, **settings)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(("name", "build", "fragments"), STORES, ids=[c[0] for c in STORES])
def test_malformed_stores_are_refused(tmp_path, name, build, fragments):
    with pytest.raises(InputError) as info:
        open_store(build(tmp_path))
    for fragment in fragments:
        assert fragment in str(info.value)


def test_description_holds_plain_values_only(tmp_path):
    folder = small_store(tmp_path / "s")
    meta = json.loads((folder / "store.json").read_text())
    assert meta["backbone"] == {"name": "tiny-bert", "source": "test", "is_decoder": False}
    assert meta["key"] == {"rows": small_table().content_hash(), **tiny_backbone().key()}
    assert meta["num_pairs"] == 10

import bz2
import csv
import gzip
import json
import os

import datasets
import numpy as np
import pyarrow as pa
import pytest

from vrm_pyro.data.rows import load_table
from vrm_pyro.errors import InputError

ASK = [{"role": "user", "content": 'Wie geht\'s?\nGut, "danke"?'}]
ROWS = [
    {
        "prompt": ASK,
        "chosen": "007",
        "rejected": "NA",
        "chosen_ratings": {"tone": 4, "truth": None},
        "rejected_ratings": {"tone": 2.5, "truth": 1},
        "preference": 0.75,
        "weight": 2.0,
        "subset": "greeting",
        "id": "one",
        "extra": "x",
    },
    {
        "prompt": ASK,
        "chosen": "Ça va, 日本\u2028語.",
        "rejected": "007",
        "chosen_ratings": None,
        "rejected_ratings": None,
        "preference": None,
        "weight": None,
        "subset": None,
        "id": "two",
        "extra": "y",
    },
]


def as_json_lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n\n" for row in rows)


def write_csv(path, delimiter):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]), delimiter=delimiter)
        writer.writeheader()
        for row in ROWS:
            cells = {k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()}
            writer.writerow(cells)
    return path


def write_bytes(path, data):
    path.write_bytes(data)
    return path


def write_arrow(path, writer):
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as sink, writer(sink, table.schema) as out:
        out.write_table(table)
    return path


def write_parquet(path):
    datasets.Dataset.from_list(ROWS).to_parquet(path)
    return path


def save_to_disk(path, rows=ROWS):
    datasets.Dataset.from_list(rows).save_to_disk(path)
    return path


def save_text(folder):
    folder.mkdir(parents=True)
    return write_bytes(folder / "a.jsonl", TEXT)


TEXT = as_json_lines(ROWS).encode()
FORMS = {
    "jsonl": lambda d: write_bytes(d / "a [1] *.jsonl", TEXT),
    "jsonl_bom": lambda d: write_bytes(d / "a.jsonl", b"\xef\xbb\xbf" + TEXT),
    "jsonl_windows": lambda d: write_bytes(d / "a.ndjson", TEXT.replace(b"\n", b"\r\n")),
    "jsonl_gz": lambda d: write_bytes(d / "a.b.jsonl.gz", gzip.compress(TEXT)),
    "jsonl_bz2": lambda d: write_bytes(d / "a.jsonl.bz2", bz2.compress(TEXT)),
    "json_list": lambda d: write_bytes(d / "a.json", json.dumps(ROWS, indent=1).encode()),
    "json_data": lambda d: write_bytes(
        d / "a.json", json.dumps({"note": '"data": []', "data": ROWS}).encode()
    ),
    "json_lines": lambda d: write_bytes(d / "a.json", TEXT),
    "csv": lambda d: write_csv(d / "a.csv", ","),
    "tsv_gz": lambda d: write_bytes(
        d / "a.tsv.gz", gzip.compress(write_csv(d / "a.tsv", "\t").read_bytes())
    ),
    "parquet": lambda d: write_parquet(d / "a.parquet"),
    "arrow_file": lambda d: write_arrow(d / "a.arrow", pa.ipc.new_file),
    "arrow_stream": lambda d: write_arrow(d / "a.arrow", pa.ipc.new_stream),
    "saved": lambda d: save_to_disk(d / "saved"),
    "pattern": lambda d: write_bytes(d / "a.jsonl", TEXT).with_name("*.jsonl"),
    "deep_pattern": lambda d: str(save_text(d / "deep" / "er").parents[2] / "**" / "a.jsonl"),
    "list": lambda d: [
        write_bytes(d / "1.jsonl", as_json_lines(ROWS[:1]).encode()),
        datasets.Dataset.from_list(ROWS[1:]),
    ],
    "dataset": lambda d: datasets.Dataset.from_list(ROWS).with_format("numpy"),
    "iterable_dataset": lambda d: datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
    "dicts": lambda d: ROWS,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_same_table(tmp_path, form):
    table = load_table(FORMS[form](tmp_path))
    assert table.prompts == [ASK]
    assert table.responses == ["007", "NA", "Ça va, 日本\u2028語."]
    assert (table.pair_first.tolist(), table.pair_second.tolist()) == ([0, 2], [1, 0])
    assert table.preference.tolist() == [0.75, 1.0]
    assert table.pair_weight.tolist() == [2.0, 1.0]
    assert table.objectives == ("tone", "truth")
    np.testing.assert_array_equal(table.ratings, [[4, np.nan], [2.5, 1], [np.nan, np.nan]])
    assert table.pair_id == ["one", "two"]
    assert table.pair_subset == ["greeting", None]
    assert table.report.rows_read == 2


def test_rows_may_differ_in_type_and_in_kind(tmp_path):
    # where one type per column is inferred, such a file does not load at all
    rows = [
        {"prompt": "a", "chosen": "b", "rejected": "c", "chosen_ratings": {"x": 1}},
        {
            "prompt": ASK,
            "response": [{"role": "assistant", "content": "d"}],
            "ratings": {"x": 0.5},
        },
        {"prompt": ASK, "response": "e", "ratings": None},
        {"chosen": [*ASK, {"role": "assistant", "content": "d"}], "rejected": [*ASK, *ANSWER]},
    ]
    table = load_table(str(write_bytes(tmp_path / "a.jsonl", as_json_lines(rows).encode())))
    assert (table.num_prompts, table.responses) == (2, ["b", "c", "d", "e", "f"])
    assert (table.report.comparisons, table.report.rated_responses) == (2, 2)
    # the same rows as a data set, which fills missing columns with None
    filled = [
        {**dict.fromkeys(("prompt", "response", "ratings", "chosen")), **row} for row in rows
    ]
    assert load_table(filled).content_hash() == table.content_hash()


ANSWER = [{"role": "assistant", "content": "f"}]


def test_long_csv_cells_are_read(tmp_path):
    long = "word " * 50_000
    path = write_bytes(tmp_path / "a.csv", f"prompt,chosen,rejected\np,{long},c\n".encode())
    before = csv.field_size_limit()
    assert load_table(path).responses[0] == long
    assert csv.field_size_limit() == before


def test_rows_of_data_sets_are_placed_by_index(tmp_path):
    rows = [{"prompt": "a", "chosen": "b", "rejected": text} for text in ("c", "", "d", " ")]
    for spec, name in (
        (datasets.Dataset.from_list(rows), "dataset"),
        (save_to_disk(tmp_path / "saved", rows), str(tmp_path / "saved")),
    ):
        with pytest.raises(InputError) as caught:
            load_table(spec)
        assert f"{name}[1]: " in str(caught.value)
        assert f"{name}[3]: " in str(caught.value)


def test_misspelled_column_of_a_data_set_is_noticed():
    data = datasets.Dataset.from_list([{"prompt": "a", "chosen": "b", "rejectd": "c"}])
    with pytest.raises(InputError, match='"rejectd": is it "rejected"'):
        load_table(data)


def test_splits_of_a_saved_dataset_dict(tmp_path):
    parts = {
        name: datasets.Dataset.from_list([{"prompt": name, "chosen": "b", "rejected": "c"}])
        for name in ("train", "test")
    }
    data = datasets.DatasetDict(parts)
    data.save_to_disk(tmp_path / "saved")
    for spec in (data, tmp_path / "saved"):
        assert load_table(spec, split="test").prompts[0][0]["content"] == "test"
        with pytest.raises(InputError, match="no split 'dev'; choose one of train, test"):
            load_table(spec, split="dev")


def test_hub_id_goes_to_load_dataset_with_configuration_and_split(monkeypatch):
    seen = []

    def load_dataset(*args, **options):
        seen.append((args, options))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_table("owner/some-set", split="train[:2]").num_pairs == 2
    load_table("owner/some-set:v1.2", split="test")
    assert seen == [
        (("owner/some-set", None), {"split": "train[:2]"}),
        (("owner/some-set", "v1.2"), {"split": "test"}),
    ]


def test_hub_out_of_reach_says_what_was_tried():
    with pytest.raises(InputError) as caught:
        load_table("owner/no-such-set")
    for part in ("owner/no-such-set: no file", "Hub", "'train'", "Check the spelling"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["rows.jsonl", "data/rows.parquet", "./rows", "a/b/c"])
def test_name_of_a_missing_file_is_not_taken_for_a_hub_id(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_table(name)


def test_empty_list_names_the_fix():
    with pytest.raises(InputError, match="name at least one"):
        load_table([])


def test_reading_leaves_nothing_behind(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    verbosity = datasets.logging.get_verbosity()
    for form in ("jsonl_gz", "csv", "parquet", "arrow_file", "json_list"):
        folder = tmp_path / form
        folder.mkdir()
        load_table(FORMS[form](folder))
        assert len(list(folder.iterdir())) == 1
    written = [file for _, _, files in os.walk(cache) for file in files]
    assert written == []
    assert datasets.logging.get_verbosity() == verbosity

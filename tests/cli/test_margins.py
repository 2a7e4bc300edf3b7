"""TRL rows with a margin, from the command line to a trained model."""

import json

import pytest
from helpers.workspace import options, rows, succeed, write_rows

from vrm_pyro.features.reading import read_store
from vrm_pyro.models.checkpoint import load_model

RAO_KUPPER = ("--model.likelihood", "RaoKupper")


def trl_rows(num_prompts, seed):
    """Return rows as TRL writes them: messages, and a margin in every second row."""
    made = []
    for number, row in enumerate(rows(num_prompts, seed, ratings=False)):
        prompt, chosen, rejected = (
            [{"role": role, "content": row[column]}]
            for column, role in (
                ("prompt", "user"),
                ("chosen", "assistant"),
                ("rejected", "assistant"),
            )
        )
        margin = {"margin": 0.25 * (number % 5)} if number % 2 else {}
        made.append({"prompt": prompt, "chosen": chosen, "rejected": rejected, **margin})
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trl")
    return {
        "data__train": write_rows(folder / "train.jsonl", trl_rows(8, 0)),
        "data__validation": write_rows(folder / "validation.jsonl", trl_rows(4, 1)),
    }


def test_they_are_trained_on_and_kept_in_the_run(place, data, tmp_path):
    run = tmp_path / "run"
    command = ("train", *options(place, **data), "--train.output_dir", run, *RAO_KUPPER)
    succeed(*command, "--model.objective", "integrated")
    assert load_model(run).model.likelihood.takes_margin
    report = json.loads((run / "metrics.json").read_text())["training"]["rows"]
    assert (report["margins"], report["margins_ignored"]) == (12, 0)
    assert (run / "features" / "train" / "pair_margin.npy").is_file()
    # The states of the run are a store like any other: the same numbers come from it.
    again = {
        "data__train": run / "features" / "train",
        "data__validation": run / "features" / "validation",
        "model__backbone": None,
        "model__max_length": None,
    }
    second = ("train", *options(place, **again), "--train.output_dir", tmp_path / "second")
    succeed(*second, *RAO_KUPPER, "--model.objective", "integrated")
    metrics = [
        json.loads((folder / "metrics.json").read_text()) for folder in (run, tmp_path / "second")
    ]
    assert metrics[0]["log_loss"] == metrics[1]["log_loss"]
    out = tmp_path / "m.json"
    succeed("evaluate", "--model", run, "--data", data["data__validation"], "--out", out)
    assert json.loads(out.read_text())["n_pairs"] == 12


def test_under_another_likelihood_they_are_counted_in_a_warning(place, data, tmp_path):
    run = tmp_path / "run"
    command = ("train", *options(place, **data), "--train.output_dir", run)
    done = succeed(*command, warnings_are="always")
    assert done.err.count('"margin" is ignored in 12 rows') == 1
    report = json.loads((run / "metrics.json").read_text())["training"]["rows"]
    assert (report["margins"], report["margins_ignored"]) == (12, 12)
    out = ("--data", data["data__validation"], "--out", tmp_path / "m.json")
    done = succeed("evaluate", "--model", run, *out, warnings_are="always")
    assert done.err.count('"margin" is ignored in 6 rows') == 1


def test_a_store_that_lost_them_says_so(place, tmp_path):
    store = tmp_path / "store"
    data = ("--data", place / "test.jsonl", "--out", store)
    backbone = ("--model.backbone", place / "bert", "--model.max_length", 60)
    succeed("features", *data, *backbone)
    meta = json.loads((store / "store.json").read_text())
    meta["report"] = {**meta["report"], "margins_ignored": 3}
    del meta["report"]["margins"]  # as the versions wrote it that did not keep margins
    (store / "store.json").write_text(json.dumps(meta))
    with pytest.warns(UserWarning, match='"margin" is ignored in 3 rows: the store was written'):
        assert read_store(str(store)).table().report.margins_ignored == 3

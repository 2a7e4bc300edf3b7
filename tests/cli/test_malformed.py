"""Whatever is wrong with the input: exit code 2, place and fix, no trace, nothing half-written."""

import shutil

import pytest
from helpers.malformed_commands import CHECKPOINTS, CONFIGS, OPTIONS
from helpers.malformed_rows import FILES, ROWS
from helpers.malformed_stores import BACKBONES, STORES
from helpers.workspace import everything, options, process, vrm_pyro


def cases(table):
    return pytest.mark.parametrize(("name", "what", "fragments"), table, ids=[c[0] for c in table])


def refused(run, fragments):
    """Check code and message."""
    assert run.code == 2, run.err
    assert [part for part in fragments if part not in run.err] == [], run.err
    assert "Traceback" not in run.err
    assert run.err.splitlines()[-1].strip()


def train(place, folder, *more, **settings):
    return ("train", *options(place, **settings), "--train.output_dir", folder / "run", *more)


@cases(ROWS + FILES)
def test_rows(place, tmp_path, name, what, fragments):
    spec = what(tmp_path)
    before = everything(tmp_path)
    refused(vrm_pyro(*train(place, tmp_path, data__train=spec)), fragments)
    assert everything(tmp_path) == before
    assert not (tmp_path / "run").exists()


@cases(CONFIGS)
def test_configs(place, tmp_path, name, what, fragments):
    config = tmp_path / "wrong.yaml"
    config.write_bytes(what if isinstance(what, bytes) else what.encode())
    # Options win over a file: those of a setting that the file is about are left out.
    free = ("model__max_length", "model__backbone", "train__num_train_epochs")
    free += ("train__per_device_train_batch_size",)
    settings = {key: None for key in free if key.partition("__")[2] in str(what)}
    refused(vrm_pyro(*train(place, tmp_path, "--config", config, **settings)), fragments)
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.yaml"]


@cases(CHECKPOINTS)
def test_checkpoints(place, tmp_path, name, what, fragments):
    model = tmp_path / "model"
    shutil.copytree(
        place / "model", model, ignore=shutil.ignore_patterns("checkpoint-*", "*.nc", "features")
    )
    what(model)
    before = everything(tmp_path)
    data = ("--data", place / "test.jsonl", "--out", tmp_path / "out")
    refused(vrm_pyro("score", "--model", model, *data), fragments)
    assert everything(tmp_path) == before


@cases([case for case in STORES if case[0] not in ("no folder", "not a store")])
def test_stores(place, tmp_path, name, what, fragments):
    store = what(tmp_path)
    before = everything(tmp_path)
    settings = {"data__train": store, "model__backbone": None, "model__max_length": None}
    refused(vrm_pyro(*train(place, tmp_path, **settings)), fragments)
    assert everything(tmp_path) == before
    assert not (tmp_path / "run").exists()


@cases(BACKBONES)
def test_backbones(place, tmp_path, name, what, fragments):
    backbone = what(tmp_path)
    before = everything(tmp_path)
    data = ("--data", place / "test.jsonl", "--out", tmp_path / "store")
    run = vrm_pyro("features", "--model.backbone", backbone, *data, warnings_are="ignore")
    refused(run, fragments)
    assert everything(tmp_path) == before


@cases(OPTIONS)
def test_options(place, tmp_path, name, what, fragments):
    words = [word.format(place=place, out=tmp_path) for word in what.split()]
    refused(vrm_pyro(*words), fragments)
    assert list(tmp_path.iterdir()) == []


class TestInAProcessOfItsOwn:
    @pytest.mark.slow
    def test_rows(self, place, tmp_path):
        data = tmp_path / "rows.jsonl"
        data.write_text('{"prompt": "a", "chosen": "b"}\n')
        run = process("evaluate", "--model", place / "model", "--data", data, "--out", "m.json")
        refused(run, ("rows.jsonl:1:", '"rejected" is missing', "--skip_invalid"))
        assert run.out == ""

    @pytest.mark.slow
    def test_config(self, place, tmp_path):
        config = tmp_path / "wrong.yaml"
        config.write_text("model:\n  mode: vib\n")
        run = process(*train(place, tmp_path, "--config", config))
        refused(run, ("vrm-pyro train: model.weight_prior is", "configs/paper.yaml"))
        assert not (tmp_path / "run").exists()

    @pytest.mark.slow
    def test_checkpoint(self, place, tmp_path):
        (tmp_path / "model").mkdir()
        data = ("--data", place / "test.jsonl", "--draws", 3, "--out", tmp_path / "p.nc")
        refused(process("posterior", "--model", tmp_path / "model", *data), ("no config.json",))
        assert not (tmp_path / "p.nc").exists()

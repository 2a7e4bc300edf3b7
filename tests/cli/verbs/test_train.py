"""``vrm-pyro train``: what a run folder holds, and whose it is."""

import json
import re

import numpy as np
import pytest
import xarray as xr
import yaml
from helpers.workspace import everything, options, rows, succeed, vrm_pyro, write_rows
from safetensors.torch import load_file
from transformers import AutoTokenizer

from vrm_pyro.models.checkpoint import load_model

SHIPPED = ("default", "ratings", "paper", "bradley_terry")


def run_options(place, folder, **settings):
    return ("train", *options(place, **settings), "--train.output_dir", folder)


@pytest.fixture(scope="module")
def finished(place, tmp_path_factory):
    """A finished run of three epochs."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run = succeed(*run_options(place, folder, train__num_train_epochs=3))
    return folder, run


def test_folder_holds_what_the_contract_names(finished):
    folder, run = finished
    held = {path.name for path in folder.iterdir()}
    named = {"config.yaml", "model.safetensors", "config.json", "metrics.json", "posterior.nc"}
    assert named | {"tokenizer.json", "log_history.json", "features"} <= held
    assert any(name.startswith("checkpoint-") for name in held)
    assert not [name for name in held if name.startswith(".")]
    assert str(folder) in run.out
    assert "next: vrm-pyro evaluate" in run.out


def test_nothing_is_logged_on_stdout(finished):
    _, run = finished
    assert len(run.out.splitlines()) == 3
    assert "features: 100%" in run.err
    assert "validation log loss" in run.err


def test_metrics_are_of_the_saved_model(place, finished, tmp_path):
    folder, _ = finished
    metrics = json.loads((folder / "metrics.json").read_text())
    data = ("--data", place / "validation.jsonl", "--out", tmp_path / "again.json")
    succeed("evaluate", "--model", folder, *data, "--dtype", "float32")
    again = json.loads((tmp_path / "again.json").read_text())
    training = metrics.pop("training")
    assert metrics["n_pairs"] == again["n_pairs"]
    assert metrics["log_loss"] == pytest.approx(again["log_loss"], abs=1e-6)
    assert training["validation_log_loss"] == pytest.approx(metrics["log_loss"], abs=1e-6)
    assert training["steps"] == 9
    assert training["rows"]["comparisons"] == 72
    assert not training["labels_are_function_of_ratings"]


def test_log_history_has_the_parts_of_the_objective(finished):
    entries = json.loads((finished[0] / "log_history.json").read_text())
    evaluations = [entry for entry in entries if "eval_log_loss" in entry]
    assert len(evaluations) >= 3
    assert {"eval_accuracy", "epoch", "step"} <= set(evaluations[0])


def test_posterior_holds_validation_rows(place, finished):
    with xr.open_datatree(finished[0] / "posterior.nc") as tree:
        w = tree["posterior"].dataset["w"]
        assert dict(w.sizes) == {"chain": 1, "draw": 1000, "prompt": 8, "objective": 2}
        assert w["objective"].values.tolist() == ["clear", "safe"]
        assert tree["observed_data"].dataset["rating"].shape == (24, 2)


def test_tokenizer_is_the_backbones(place, finished):
    ids = [
        AutoTokenizer.from_pretrained(path)("the bird is blue")["input_ids"]
        for path in (place / "bert", finished[0])
    ]
    assert ids[0] == ids[1]


def test_resolved_config_gives_the_same_run(finished, tmp_path):
    folder, _ = finished
    config = folder / "config.yaml"
    succeed("train", "--config", config, "--train.output_dir", tmp_path / "again")
    first, second = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "again"))
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)
    again = yaml.safe_load((tmp_path / "again" / "config.yaml").read_text())
    before = yaml.safe_load(config.read_text())
    before["train"]["output_dir"] = again["train"]["output_dir"]
    assert again == before


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_config_trains(place, tmp_path, name):
    folder = tmp_path / "run"
    settings = {"train__num_train_epochs": 1, "data__train": place / "store"}
    wanted = dict.fromkeys(("model__backbone", "model__max_length", "model__recalibrate"))
    succeed(*run_options(place, folder, **wanted, **settings), "--config", name)
    loaded = load_model(folder)
    training = json.loads((folder / "metrics.json").read_text())["training"]
    assert ("scales" in training) == (name in ("default", "ratings"))
    assert loaded.backbone["max_length"] == 60
    assert (folder / "posterior.nc").is_file() == (name != "bradley_terry")
    assert loaded.architecture == ("bradley_terry" if name == "bradley_terry" else "vrm")


def test_a_store_trains_like_the_rows_it_was_made_from(place, finished, tmp_path):
    folder = tmp_path / "from_store"
    settings = {"data__train": place / "store", "train__num_train_epochs": 3}
    succeed(*run_options(place, folder, **settings))
    first, second = (load_file(f / "model.safetensors") for f in (finished[0], folder))
    assert all(first[name].equal(second[name]) for name in first)


def test_without_validation_prompts_are_held_out(place, tmp_path):
    folder = tmp_path / "run"
    settings = {"data__validation": None, "data__validation_fraction": 0.25}
    succeed(*run_options(place, folder, **settings), "--train.num_train_epochs", 1)
    metrics = json.loads((folder / "metrics.json").read_text())
    held_out = metrics["n_prompts"]
    assert 1 <= held_out < 16
    assert metrics["training"]["train_prompts"] == 24 - held_out
    assert metrics["training"]["train_pairs"] == 72 - metrics["n_pairs"]


@pytest.mark.parametrize("spec", ["train.jsonl", "store"])
def test_max_prompts(place, tmp_path, spec):
    settings = {"data__train": place / spec, "data__max_prompts": 6, "train__num_train_epochs": 1}
    succeed(*run_options(place, tmp_path / "run", **settings))
    training = json.loads((tmp_path / "run" / "metrics.json").read_text())["training"]
    assert training["train_prompts"] == 6
    assert training["train_pairs"] == 18


class TestWhoseFolderItIs:
    def test_a_finished_run_is_not_touched(self, place, finished):
        folder, _ = finished
        before = everything(folder)
        run = vrm_pyro(*run_options(place, folder))
        assert run.code == 2
        assert "holds a finished run" in run.err
        assert "--overwrite" in run.err
        assert everything(folder) == before

    def test_resuming_a_finished_run_does_nothing(self, place, finished):
        folder, _ = finished
        before = everything(folder)
        resumed = ("train", "--train.output_dir", folder, "--train.resume_from_checkpoint", "true")
        assert "nothing to resume" in succeed(*resumed).out
        assert everything(folder) == before

    def test_a_stopped_run_names_both_options(self, place, stopped):
        run = vrm_pyro(*run_options(place, stopped, train__num_train_epochs=3))
        assert run.code == 2
        assert "--train.resume_from_checkpoint true" in run.err
        assert "--overwrite" in run.err

    def test_resume_with_other_settings_names_the_setting(self, place, stopped):
        resume = ("--train.resume_from_checkpoint", "true", "--model.num_draws", 5)
        run = vrm_pyro(*run_options(place, stopped, train__num_train_epochs=3), *resume)
        assert run.code == 2
        assert re.search(r"model\.num_draws 4, now it is 5", run.err)

    def test_resume_and_overwrite_exclude_each_other(self, place, stopped):
        both = ("--train.resume_from_checkpoint", "true", "--overwrite")
        run = vrm_pyro(*run_options(place, stopped), *both)
        assert run.code == 2
        assert "exclude each other" in run.err

    def test_the_folder_is_enough_to_resume(self, finished, stopped):
        resume = ("--train.output_dir", stopped, "--train.resume_from_checkpoint", "true")
        run = succeed("train", *resume)
        assert "resuming the run there" in run.err
        assert "the store is finished already" in run.err
        first, second = (load_file(f / "model.safetensors") for f in (finished[0], stopped))
        assert all(first[name].equal(second[name]) for name in first)

    def test_overwrite_starts_afresh(self, place, stopped):
        (stopped / "mine.txt").write_text("x")
        succeed(*run_options(place, stopped, train__num_train_epochs=1), "--overwrite")
        assert not (stopped / "mine.txt").exists()
        assert json.loads((stopped / "metrics.json").read_text())["training"]["steps"] == 3

    def test_other_files_are_not_touched(self, place, tmp_path):
        (tmp_path / "thesis.tex").write_text("x")
        run = vrm_pyro(*run_options(place, tmp_path))
        assert run.code == 2
        assert "holds files already" in run.err
        assert set(everything(tmp_path)) == {"thesis.tex"}

    def test_overwrite_spares_what_is_to_be_read(self, place, stopped):
        settings = {"data__train": stopped / "features" / "train"}
        run = vrm_pyro(*run_options(place, stopped, **settings), "--overwrite")
        assert run.code == 2
        assert "which is read; it would be lost" in run.err
        assert (stopped / "features" / "train" / "store.json").is_file()


@pytest.fixture
def stopped(finished, tmp_path):
    """The finished run as a kill after its second epoch would have left it."""
    import shutil

    folder = tmp_path / "stopped"
    shutil.copytree(finished[0], folder)
    for name in ("config.json", "model.safetensors", "metrics.json", "posterior.nc"):
        (folder / name).unlink()
    newest = max(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    assert newest.name == "checkpoint-9"
    (newest / "trainer_state.json").write_text("{")  # cut off while it was written
    return folder


class TestLabelsThatAreAFunctionOfRatings:
    @pytest.fixture
    def unidentified(self, tmp_path):
        made = rows(16, seed=3)
        for row in made:
            means = [np.mean(list(row[f"{s}_ratings"].values())) for s in ("chosen", "rejected")]
            if means[0] < means[1]:
                for one, two in (("chosen", "rejected"), ("chosen_ratings", "rejected_ratings")):
                    row[one], row[two] = row[two], row[one]
        return write_rows(tmp_path / "unidentified.jsonl", made)

    @pytest.mark.parametrize(
        ("choice", "rated", "pairs", "words"),
        [
            ("warn", True, 48, "drop_ratings or drop_preferences"),
            ("drop_ratings", False, 48, "ratings are left out"),
            ("drop_preferences", True, 0, "preferences are left out"),
        ],
    )
    def test_choices(self, place, tmp_path, unidentified, choice, rated, pairs, words):
        settings = {"data__train": unidentified, "data__on_unidentified": choice}
        settings |= {"train__num_train_epochs": 1}
        run = succeed(*run_options(place, tmp_path / "run", **settings), warnings_are="default")
        warning = "warning: labels are a function of ratings; objective weights are not identified"
        assert warning in run.err
        assert words in run.err
        both = choice == "warn"
        assert ("Equal weights explain every label" in " ".join(run.err.split())) is both
        assert load_model(tmp_path / "run").rated == rated
        training = json.loads((tmp_path / "run" / "metrics.json").read_text())["training"]
        assert training["train_pairs"] == pairs


def test_a_users_own_class_is_trained_and_handed_in(place, tmp_path, monkeypatch):
    (tmp_path / "own_priors.py").write_text(
        "from dataclasses import dataclass\n"
        "from vrm_pyro.models.priors import ConditionalDirichletPrior\n\n"
        "@dataclass(frozen=True)\n"
        "class OwnPrior(ConditionalDirichletPrior):\n"
        '    """A prior of my own.\n\n    Args:\n        sharpness: How sharp.\n    """\n\n'
        "    sharpness: float = 2.0\n"
    )
    monkeypatch.chdir(tmp_path)
    own = ("--model.weight_prior", "own_priors.OwnPrior", "--model.weight_prior.sharpness", 3)
    succeed(*run_options(place, "run", train__num_train_epochs=1), *own)
    data = ("--data", place / "test.jsonl", "--out", "m.json")
    run = vrm_pyro("evaluate", "--model", "run", *data)
    assert run.code == 2
    assert "no class 'OwnPrior'" in run.err
    assert "--classes" in run.err
    succeed("evaluate", "--model", "run", *data, "--classes", "own_priors.OwnPrior")
    assert "own_priors" not in (tmp_path / "run" / "config.json").read_text()


def test_a_users_own_rating_likelihood_is_trained_and_handed_in(place, tmp_path, monkeypatch):
    (tmp_path / "own_ratings.py").write_text(
        "from dataclasses import dataclass\n"
        "from vrm_pyro.models.ratings import GaussianRatings\n\n"
        "@dataclass(frozen=True)\n"
        "class OwnRatings(GaussianRatings):\n"
        '    """Ratings of my own."""\n'
    )
    monkeypatch.chdir(tmp_path)
    own = ("--model.rating_likelihood", "own_ratings.OwnRatings")
    succeed(*run_options(place, "run", train__num_train_epochs=1), *own)
    data = ("--data", place / "test.jsonl", "--out", "m.json")
    assert "no class 'OwnRatings'" in vrm_pyro("evaluate", "--model", "run", *data).err
    succeed("evaluate", "--model", "run", *data, "--classes", "own_ratings.OwnRatings")


def test_overlap_of_train_and_validation_is_told(place, tmp_path):
    settings = {"data__validation": place / "train.jsonl", "train__num_train_epochs": 1}
    run = succeed(*run_options(place, tmp_path / "run", **settings), warnings_are="default")
    assert "warning: 24 of the 24 validation prompts are training prompts too" in run.err

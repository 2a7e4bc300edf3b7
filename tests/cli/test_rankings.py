"""Rankings of several responses, from the command line to a trained model and its draws."""

import json

import numpy as np
import pytest
import xarray as xr
from helpers.tiny_backbones import text
from helpers.workspace import lines, options, succeed, vrm_pyro, write_rows

JOINT = ("--model.likelihood", "PlackettLuce", "--model.objective", "sampled")


def rankings(num_prompts, seed):
    """Return a ranking of four a prompt, with ratings in every second one, and a plain pair."""
    rng, made = np.random.default_rng(seed), []
    for i in range(num_prompts):
        texts = [text(10_000 * seed + 100 * i + j, 4 + 3 * j) for j in range(4)]
        row = {
            "prompt": text(10_000 * seed + 100 * i + 99, 5 + i % 3),
            "responses": texts,
            "ranks": (1 + rng.permutation(4)).tolist(),
            "id": f"{seed}-{i}",
        }
        if i % 2:
            row["ratings"] = [{"clear": float(rng.normal(3, 1)), "safe": 1.5}] * 3 + [None]
        made.append(row)
    made.append({"prompt": f"Which {seed}?", "chosen": "This one.", "rejected": "That one."})
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rankings")
    return {
        "data__train": write_rows(folder / "train.jsonl", rankings(10, 3)),
        "data__validation": write_rows(folder / "validation.jsonl", rankings(4, 4)),
    }


@pytest.fixture(scope="module")
def finished(place, data, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "joint"
    succeed("train", *options(place, **data), "--train.output_dir", run, *JOINT)
    return run


def test_a_run_trains_and_reports_on_them(finished, data, tmp_path):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["n_pairs"] == 4 * 6 + 1
    report = metrics["training"]["rows"]
    assert (report["rankings"], report["comparisons"]) == (10, 1)
    history = json.loads((finished / "log_history.json").read_text())
    assert all(np.isfinite(entry["elbo"]) for entry in history if "elbo" in entry)
    out = ("--data", data["data__validation"], "--out")
    succeed("evaluate", "--model", finished, *out, tmp_path / "m.json", "--dtype", "float32")
    again = json.loads((tmp_path / "m.json").read_text())
    assert again["log_loss"] == pytest.approx(metrics["log_loss"], abs=1e-6)


def test_other_verbs_take_them(finished, data, tmp_path):
    rows = ("--data", data["data__validation"], "--out")
    succeed("score", "--model", finished, *rows, tmp_path / "s.jsonl")
    assert len(lines(tmp_path / "s.jsonl")) == 2 * (4 * 6 + 1)
    succeed("posterior", "--model", finished, *rows, tmp_path / "p.nc", "--draws", 20)
    with xr.open_datatree(tmp_path / "p.nc") as tree:
        constant = tree["constant_data"]
        assert constant["pair_ranking"].dims == ("pair",)
        assert np.bincount(constant["pair_ranking"].values + 1).tolist() == [1, 6, 6, 6, 6]
        assert set(tree["log_likelihood"].data_vars) == {"outcomes"}
        assert np.isfinite(tree["log_likelihood"]["outcomes"]).all()
        assert np.isfinite(tree["sample_stats"]["elbo"]).all()


def test_states_on_disk_train_the_same(place, finished, tmp_path):
    again = {
        "data__train": finished / "features" / "train",
        "data__validation": finished / "features" / "validation",
        "model__backbone": None,
        "model__max_length": None,
    }
    run = tmp_path / "run"
    succeed("train", *options(place, **again), "--train.output_dir", run, *JOINT)
    first, second = (
        json.loads((folder / "metrics.json").read_text()) for folder in (finished, run)
    )
    assert first["log_loss"] == second["log_loss"]


@pytest.mark.parametrize("objective", ["pairwise", "integrated", "collapsed"])
def test_an_objective_of_pairs_is_refused(place, data, tmp_path, objective):
    settings = ("--model.likelihood", "PlackettLuce", "--model.objective", objective)
    out = ("--train.output_dir", tmp_path / "run")
    run = vrm_pyro("train", *options(place, **data), *out, *settings)
    assert run.code == 2
    fragments = (
        f"model.objective is {objective}",
        "10 rankings",
        "PlackettLuce",
        "needs model.objective sampled",
    )
    assert [part for part in fragments if part not in run.err] == [], run.err
    assert "Traceback" not in run.err
    assert not (tmp_path / "run").exists()


def test_another_likelihood_warns_that_it_takes_pairs(place, data, tmp_path):
    out = ("--train.output_dir", tmp_path / "run")
    run = succeed("train", *options(place, **data), *out, warnings_are="always")
    message = "10 rankings of more than two responses are taken as pairs"
    assert run.err.count(message) == 1
    assert "composite likelihood" in run.err


def test_the_baseline_takes_them_as_a_whole(place, data, tmp_path):
    out = ("--train.output_dir", tmp_path / "run", "--config", "bradley_terry")
    settings = {"model__likelihood": "PlackettLuce", "model__head_dropout": 0.0}
    succeed("train", *options(place, **data, **settings), *out)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert np.isfinite(metrics["log_loss"])

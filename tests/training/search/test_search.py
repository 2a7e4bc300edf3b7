"""A search finds what is better, resumes, shares trials, and refuses what it cannot use."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.number_texts import QUICK, Numbers, number_rows

import vrm_pyro
from vrm_pyro.diagnostics.metrics.pair_metrics import log_loss_values
from vrm_pyro.errors import InputError
from vrm_pyro.training.run.read_settings import read_settings
from vrm_pyro.training.search import cells as cells_module
from vrm_pyro.training.search import session

LOG2 = float(np.log(2))
SMOOTH = {"train.learning_rate": {"low": 0.001, "high": 0.1, "log": True}}


class Killed(BaseException):
    """Ends a search as a kill does: nothing is told to the storage."""


def cells(folder):
    """Return the result files and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in Path(folder, "cells").iterdir()}


def kill_after(monkeypatch, count):
    """Let a search end in the middle of a trial, after some trainings."""
    done, own = [], session.run_cell

    def run_cell(*arguments):
        if len(done) == count:
            raise Killed
        done.append(own(*arguments))
        return done[-1]

    monkeypatch.setattr(session, "run_cell", run_cell)


def test_the_choice_is_the_value_that_is_better_and_its_config_trains(run, store, tmp_path):
    found = run(trials=3)
    assert len(found.configs["bradley_terry"].trials) == 3
    searched = found.configs["bradley_terry"]
    chosen = searched.trial(searched.choice)
    assert chosen.values == {"train.learning_rate": 0.1}
    assert chosen.rates.log_loss.value < 0.5 < LOG2
    by_rate = {t.values["train.learning_rate"]: t for t in searched.trials}
    assert by_rate[1e-6].rates.log_loss.value == pytest.approx(LOG2, abs=0.2)
    assert by_rate[1e-6].number not in searched.close
    assert str(found) in (tmp_path / "out/search.md").read_text("utf-8")
    written = json.loads((tmp_path / "out/search.json").read_text("utf-8"))
    assert written == found.to_dict()
    # A trial that repeats the settings of another costs no training.
    assert len(cells(tmp_path / "out")) == 2 * 2
    held = yaml.safe_load(searched.path.read_text("utf-8"))
    assert held["train"]["learning_rate"] == 0.1
    assert held["data"]["train"] == str(store)
    settings = read_settings(searched.path)
    assert (settings.model.head_size, settings.arguments.learning_rate) == (0, 0.1)
    # The store of a backbone of the user's own needs no tokenizer, so train takes the config.
    done = vrm_pyro.fit(config=searched.path, output_dir=tmp_path / "chosen")
    assert done.metrics["log_loss"] < LOG2


def test_the_value_of_a_trial_is_the_loss_of_models_that_saw_no_pair_of_the_prompt(run, tmp_path):
    found = run(trials=1, folds=3, seeds=2, space={"train.learning_rate": [0.1]})
    table = vrm_pyro.load_table(number_rows(30))
    (trial,) = found.configs["bradley_terry"].trials
    losses = np.zeros(table.num_pairs)
    for seed in range(2):
        folds = vrm_pyro.fold_by_prompt(table, 3, seed)
        for fold in range(3):
            rest = table.select_prompts(folds != fold)
            held_out = np.flatnonzero(folds[table.pair_prompt] == fold)
            # Trained anew, by the settings that a user would give.
            position = vrm_pyro.data.rows.splits.prompt_positions(rest, seed * 4 + fold + 1)
            stopping = position >= 0.75
            parts = [
                vrm_pyro.encode_table(rest.select_prompts(part), Numbers())
                for part in (~stopping, stopping)
            ]
            settings = read_settings(
                "bradley_terry",
                {
                    "model.head_size": 0,
                    "model.head_dropout": 0,
                    "train.num_train_epochs": 1,
                    "train.per_device_train_batch_size": 8,
                    "train.use_cpu": True,
                    "train.learning_rate": 0.1,
                    "train.seed": 42 + seed,
                    "train.output_dir": tmp_path / f"{seed}{fold}",
                    "train.disable_tqdm": True,
                },
            )
            model = vrm_pyro.train(settings.model, settings.arguments, *parts).loaded.model
            states = vrm_pyro.encode_table(table.select_prompts(folds == fold), Numbers())
            p_first = vrm_pyro.predict(model, states).p_first
            losses[held_out] += log_loss_values(p_first, table.preference[held_out]) / 2
    assert trial.rates.log_loss.value == pytest.approx(losses.mean(), abs=1e-5)


def test_a_killed_search_resumes_with_the_numbers_of_an_uninterrupted_one(
    run, tmp_path, monkeypatch
):
    whole = run(output_dir=tmp_path / "whole", trials=3, space=SMOOTH)
    with monkeypatch.context() as patch:
        kill_after(patch, 3)  # the second trial has done one of its two folds
        with pytest.raises(Killed):
            run(trials=3, space=SMOOTH)
    before = cells(tmp_path / "out")
    assert len(before) == 3
    again = run(trials=3, space=SMOOTH)
    name = "bradley_terry"
    expected = numbers(whole.configs[name])
    assert numbers(again.configs[name]) == expected
    after = cells(tmp_path / "out")
    assert {name: after[name] for name in before} == before  # no fold was trained again
    assert len(after) == 6


def numbers(searched):
    """Return number, state, settings and loss of all trials."""
    return [
        (t.number, t.state, t.values, None if t.rates is None else t.rates.log_loss)
        for t in searched.trials
    ]


HANGING = """
import sys, time
from vrm_pyro.cli import main
from vrm_pyro.training.search import cells as cells_module
from vrm_pyro.training.search import session

train, done = session.run_cell, []

def run_cell(*arguments):
    if done:
        time.sleep(600)
    done.append(train(*arguments))
    return done[-1]

session.run_cell = run_cell
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_two_processes_share_a_budget_and_a_killed_one_loses_no_trial(run, store, tmp_path):
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SMOOTH))
    out = tmp_path / "out"
    options = ["search", "--config", "bradley_terry", "--space", tmp_path / "space.yaml"]
    options += ["--data.train", store, "--out", out, "--trials", 3, "--folds", 2]
    options += [f"--{key}={value}" for key, value in QUICK.items()]
    # It has done one of the two folds of its trial, and lives.
    other = subprocess.Popen([sys.executable, "-c", HANGING, *map(str, options)])
    try:
        wait_for(lambda: (out / "cells").is_dir() and len(cells(out)) == 1, other)
        before = cells(out)

        def kill():
            wait_for(lambda: len(cells(out)) == 5, other)  # the other two trials are done
            other.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        found = run(trials=3, space=SMOOTH)
        killer.join()
    finally:
        other.kill()
        other.wait()
    searched = found.configs["bradley_terry"]
    assert [(t.number, t.state) for t in searched.trials] == [(n, "complete") for n in range(3)]
    after = cells(out)
    assert len(after) == 6
    assert before.items() <= after.items()


def wait_for(condition, process, seconds=120):
    """Wait until a condition holds while a process works."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the process has ended"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def test_test_rows_play_no_part_and_measure_the_choice_trained_on_all_others(run, tmp_path):
    rows = number_rows(30)
    held = number_rows(12, seed=5)
    found = run(
        rows, test=held, configs=["networks", "bradley_terry"], trials=1, backbone=Numbers(),
        space={"train.learning_rate": [0.1], "networks": {"model.latent_dim": [2]}},
    )  # fmt: skip
    without = run(
        rows, configs=["networks", "bradley_terry"], trials=1, output_dir=tmp_path / "without",
        space={"train.learning_rate": [0.1], "networks": {"model.latent_dim": [2]}},
        backbone=Numbers(),
    )  # fmt: skip
    assert [c.rows for c in found.comparisons] == ["held out", "test"]
    assert found.comparisons[:1] == without.comparisons
    for name in ("networks", "bradley_terry"):
        own = found.configs[name]
        assert own.test.log_loss.value < LOG2
        assert numbers(own) == numbers(without.configs[name])
        held = yaml.safe_load(own.path.read_text("utf-8"))
        assert "train" not in held["data"]  # the rows are in no file
    gap = found.comparisons[1].log_loss
    losses = [found.configs[name].test.log_loss.value for name in ("networks", "bradley_terry")]
    assert gap.difference == pytest.approx(losses[0] - losses[1])
    assert gap.lower < gap.difference < gap.upper
    assert found.facts["test_pairs"] == 24


def test_a_combination_that_cannot_be_trained_is_a_failed_trial_that_counts(run, caplog):
    found = run(configs="default", trials=4, space={"model.mode": ["conditional", "vib"]})
    searched = found.configs["default"]
    states = {t.values["model.mode"]: (t.state, t.error) for t in searched.trials}
    assert states["conditional"] == ("complete", None)
    state, error = states["vib"]
    assert state == "failed"
    assert "which mode 'vib' does not take" in error
    assert f"failed: {error}" in caplog.text
    assert len(searched.trials) == 4
    assert searched.trials[0].values == {"model.mode": "conditional"}  # those of the config
    with pytest.raises(InputError, match="none of 2 trials could be trained. The first says: .*"):
        run(configs="default", space={"model.mode": ["vib"]}, overwrite=True)


def test_states_are_computed_once_for_each_backbone_setting(run, tmp_path, monkeypatch):
    from vrm_pyro.training.search import rows

    made = {}

    def backbone(settings):
        return made.setdefault(settings.model.pooling, Numbers(settings.model.pooling))

    monkeypatch.setattr(rows, "backbone_of", backbone)
    data = number_rows(30)
    found = run(data, space={"model.pooling": ["mean", "last"]}, trials=3)
    assert {t.values["model.pooling"] for t in found.configs["bradley_terry"].trials} == set(made)
    texts = vrm_pyro.load_table(data)
    assert {b.texts for b in made.values()} == {texts.num_prompts + texts.num_responses}
    assert len(list((tmp_path / "out/states").iterdir())) == len(made)


def test_an_interrupt_says_how_to_resume_and_frees_the_trial(run, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt("A checkpoint was saved.")  # as training does

    with monkeypatch.context() as patch:
        patch.setattr(session, "run_cell", interrupted)
        with pytest.raises(KeyboardInterrupt, match="The same command resumes the search"):
            run(trials=1)
    assert not list((tmp_path / "out/workers").iterdir())


def test_a_full_disk_ends_the_search_and_fails_no_trial(run, tmp_path, monkeypatch):
    def full(*arguments):
        raise InputError("the checkpoint could not be written.") from OSError("full")

    with monkeypatch.context() as patch:
        patch.setattr(cells_module, "train", full)
        with pytest.raises(OSError, match="could not be written"):
            run(trials=1)
    assert [t.state for t in run(trials=1).configs["bradley_terry"].trials] == ["complete"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"trials": 0}, "--trials is 0, but must be at least 1"),
            ({"folds": 1}, "--folds is 1, but must be at least 2"),
            ({"folds": 40}, "40 folds of 30 prompts"),
            ({"space": {"model.head_sizes": [1]}}, "space: bradley_terry: model.head_sizes: 1: "),
            ({"space": {"model.pooling": ["last"]}}, "model.pooling cannot be searched"),
            ({"settings": {"tuning.method": "lora"}}, "tuning.method is lora"),
            ({"settings": {"data.validation": "rows.jsonl"}}, "Leave data.validation out"),
            (
                {"settings": {"data.validation_fraction": 0.04, "data.split_seed": 1}},
                "fold 2 of seed 1 has no pair to stop training by. Raise data.validation_fraction",
            ),
            ({"configs": ["ratings", "ratings"]}, "two configs are called ratings"),
            ({"configs": "nothing"}, "--config nothing: no such file"),
            ({"space": "nothing"}, "--space nothing: no such file"),
            ({"data": None}, "data.train is not set"),
            (
                {"data": [{"prompt": "1 2 3 4", "response": "1 2 3 4", "ratings": {"a": 1}}]},
                "no pair",
            ),
        ],
    )
    def test_nothing_is_written(self, run, tmp_path, changes, words):
        with pytest.raises(InputError, match=words):
            run(**changes)
        assert not (tmp_path / "out").exists()

    def test_another_search_in_the_folder(self, run, tmp_path):
        run(trials=1)
        with pytest.raises(InputError, match="out: holds another run"):
            run(trials=1, folds=3)
        assert len(run(trials=1, folds=3, overwrite=True).configs) == 1
        assert len(cells(tmp_path / "out")) == 3

    def test_rows_that_overwrite_would_delete(self, run, store):
        with pytest.raises(InputError, match="is .*, which is read; it would be lost"):
            run(output_dir=store, overwrite=True)

    def test_optuna_is_missing(self, run, monkeypatch):
        monkeypatch.setitem(sys.modules, "optuna", None)
        with pytest.raises(InputError, match=r'pip install "vrm-pyro\[search\]"'):
            run()

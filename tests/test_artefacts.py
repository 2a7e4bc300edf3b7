"""What version 0.1.0 wrote still loads and gives the same numbers.

Probabilities, and rates made of them, are those of today's quadrature, which moved them by up to
6e-4.
"""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import xarray as xr
from helpers.workspace import lines, succeed
from transformers import AutoModelForSequenceClassification

import vrm_pyro.integrations.huggingface  # noqa: F401 - registers the class
from vrm_pyro.features.store import open_store

ARTEFACTS = Path(__file__).parent / "artefacts"
RUNS = ("ratings", "bradley_terry", "bayesian_head", "paper", "lora")
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A copy of the artefacts, where tests may write."""
    return shutil.copytree(ARTEFACTS, tmp_path_factory.mktemp("held") / "artefacts")


@pytest.fixture(autouse=True)
def _inside(held, monkeypatch):
    """Runs name their backbone by a relative path."""
    monkeypatch.chdir(held)


def assert_equal(found, expected, where=""):
    """Compare nested JSON values; numbers within the tolerance."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert_equal(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, value in enumerate(expected):
            assert_equal(found[i], value, f"{where}[{i}]")
    elif isinstance(expected, float):
        assert math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("run", RUNS)
def test_a_run_evaluates_as_before(run, held):
    succeed("evaluate", "--model", run, "--data", "test.jsonl", "--out", "evaluate.json")
    expected = json.loads((held / run / "expected_evaluate.json").read_text())
    assert_equal(json.loads((held / "evaluate.json").read_text()), expected)


@pytest.mark.parametrize("run", RUNS)
def test_a_run_scores_as_before(run, held):
    out = f"{run}.jsonl"
    succeed("score", "--model", run, "--data", "test.jsonl", "--out", out)
    assert_equal(lines(held / out), lines(held / run / "expected_score.jsonl"))


def test_a_store_scores_as_its_rows(held):
    assert len(open_store("store").pair_first) == 12
    succeed("evaluate", "--model", "ratings", "--data", "store", "--out", "from_store.json")
    expected = json.loads((held / "ratings" / "expected_evaluate.json").read_text())
    assert_equal(json.loads((held / "from_store.json").read_text()), expected)


def test_settings_of_a_run_start_a_new_one(held):
    before = (held / "ratings/config.yaml").read_text()
    assert "class_path: vrm_pyro.priors.ConditionalDirichletPrior" in before
    data = ("--data.train", "store", "--data.validation", "store")
    config = ("--config", "ratings/config.yaml", "--train.output_dir", "again")
    succeed("train", *config, *data, "--train.use_cpu", "true", warnings_are="ignore")
    after = (held / "again/config.yaml").read_text()
    assert "class_path: ConditionalDirichletPrior" in after


@pytest.mark.parametrize("name", ["export", "export_bayesian_head"])
def test_an_export_gives_its_rewards(name, held):
    expected = json.loads((held / "expected_export.json").read_text())
    logits = expected.pop("logits")[name]
    model = AutoModelForSequenceClassification.from_pretrained(held / name)
    inputs = {key: torch.tensor(value) for key, value in expected.items() if value is not None}
    with torch.no_grad():
        found = model(**inputs).logits
    assert (found - torch.tensor(logits)).abs().max() < TOLERANCE


def test_a_posterior_file_is_read(held):
    with xr.open_datatree("posterior.nc") as tree:
        assert tree["posterior"].sizes["draw"] == 100
    succeed("psense", "--posterior", "posterior.nc", "--out", "psense.json")
    expected = json.loads((held / "expected_psense.json").read_text())
    assert_equal(json.loads((held / "psense.json").read_text()), expected)

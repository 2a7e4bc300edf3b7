"""Options of the verbs are built without torch; their defaults are those of the library."""

import importlib
import inspect
from dataclasses import fields

import pytest
from helpers.workspace import vrm_pyro

from vrm_pyro.cli import VERBS
from vrm_pyro.cli.parsing import options_of, parse, underscored
from vrm_pyro.cli.verbs import certify, diagnose, features, score, simulate
from vrm_pyro.data.simulation import simulate_texts
from vrm_pyro.diagnostics import checks
from vrm_pyro.diagnostics.certificates import PRIOR_SCALES
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.prediction.scorer import sharded


def test_simulate_offers_the_arguments_of_simulate_texts():
    arguments = inspect.signature(simulate_texts).parameters
    offered = {name: default for name, default, _ in simulate.SETTINGS}
    assert offered == {n: a.default for n, a in arguments.items() if n != "num_pairs"}
    kinds = {name: type(default) for name, default in offered.items()}
    assert kinds == {n: a.annotation for n, a in arguments.items() if n != "num_pairs"}


def test_features_offers_settings_of_the_model():
    known = {item.name: (item.type, item.default) for item in fields(ModelConfig)}
    for name, kind, default, _ in features.SETTINGS:
        assert known[name] == (kind, default)


def test_score_shares_its_default_with_the_library():
    assert score.SHARD_ROWS == sharded.SHARD_ROWS


@pytest.mark.parametrize("verb", VERBS)
def test_options_are_written_with_underscores(verb):
    parser = importlib.import_module(f"vrm_pyro.cli.verbs.{verb}").build_parser()
    names = options_of(parser)
    assert names
    assert [name for name in names if "-" in name.removeprefix("--")] == ["-h"]
    for name in names:
        dashed = name[:2] + name[2:].replace("_", "-")
        assert underscored([f"{dashed}=a-b_c"], names) == [f"{name}=a-b_c"]


def test_the_other_spelling_is_accepted():
    parser = score.build_parser()
    lines = ("--skip_invalid", "--skip-invalid")
    found = [
        parse(parser, ["--model", "m", "--data", "d", "--out", "o.jsonl", line]) for line in lines
    ]
    assert found[0] == found[1]
    assert found[0].skip_invalid


def test_values_keep_their_dashes():
    assert underscored(["--prompt", "--skip-invalid-x"], ["--prompt", "--skip_invalid"]) == [
        "--prompt",
        "--skip-invalid-x",
    ]


@pytest.mark.parametrize("verb", ["evaluate", "score", "posterior", "diagnose", "report"])
def test_out_that_is_a_folder_is_refused_before_the_model_is_read(verb, tmp_path):
    run = vrm_pyro(verb, "--model", "none", "--data", "none.jsonl", "--out", tmp_path)
    assert run.code == 2
    assert f"{tmp_path}: is a folder" in run.err


@pytest.mark.parametrize(
    "rest",
    [
        ("certify", "--backbone_saw_these_labels", "no", "--model", "none", "--data", "n.jsonl"),
        ("explain", "--model", "none", "--prompt", "p", "--response", "a", "--response", "b"),
        ("psense", "--posterior", "none.nc"),
    ],
)
def test_optional_out_that_is_a_folder_is_refused_first(rest, tmp_path):
    run = vrm_pyro(*rest, "--out", tmp_path)
    assert run.code == 2
    assert f"{tmp_path}: is a folder" in run.err


def test_diagnose_shares_its_defaults_with_the_library():
    assert (diagnose.NUM_PROMPTS, diagnose.NUM_DRAWS) == (checks.NUM_PROMPTS, checks.NUM_DRAWS)


def test_certify_offers_the_scales_of_the_library():
    assert certify.PRIOR_SCALES == PRIOR_SCALES

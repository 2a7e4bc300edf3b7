"""search: its options, its table and files, and what it refuses."""

import json

import pytest
from helpers.workspace import succeed, vrm_pyro

from vrm_pyro.cli.verbs.search import split_settings
from vrm_pyro.errors import InputError
from vrm_pyro.training.run.read_settings import read_settings

SPACE = """
train.learning_rate: {low: 1.0e-3, high: 1.0e-1, log: true}
bradley_terry:
  model.head_size: [0, 8]
"""


@pytest.fixture
def call(place, tmp_path):
    """Return the command line of a small search on the store of the workspace."""
    (tmp_path / "space.yaml").write_text(SPACE)

    def arguments(*more):
        return (
            "search", "--space", tmp_path / "space.yaml", "--out", tmp_path / "out",
            "--data.train", place / "store", "--trials", 1, "--folds", 2,
            "--train.num_train_epochs", 1, "--train.per-device-train-batch-size=8",
            "--train.use_cpu", "true", *more,
        )  # fmt: skip

    return arguments


def test_two_configs_and_a_test(call, place, tmp_path):
    both = ("--config", "ratings", "--config", "bradley_terry")
    run = succeed(*call(*both, "--test", place / "test.jsonl", "--model.dtype", "float32"))
    folder = tmp_path / "out"
    assert (folder / "search.md").read_text("utf-8").strip() in run.out
    for words in ("| ratings ", "ratings minus bradley_terry | test ", f"written: {folder}"):
        assert words in run.out
    found = json.loads((folder / "search.json").read_text("utf-8"))
    assert (found["pairs"], found["test_pairs"], found["trials"]) == (72, 24, 1)
    assert list(found["configs"]) == ["ratings", "bradley_terry"]
    assert len(found["comparisons"]) == 2
    for name, searched in found["configs"].items():
        assert searched["config"] == str(folder / name / "best.yaml")
        settings = read_settings(searched["config"])
        assert settings.arguments.per_device_train_batch_size == 8
        # The config's own settings come first.
        assert settings.arguments.learning_rate == 1e-3
    assert "trial" in run.err
    again = succeed(*call(*both, "--test", place / "test.jsonl", "--model.dtype", "float32"))
    assert again.out == run.out
    assert "resuming the search there" in again.err


def test_help_teaches(call):
    out = " ".join(succeed("search", "--help").out.split())
    for words in ("learning_rate: {low: 3.0e-4", "--trials", "resumes", "within one standard"):
        assert words in out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--model.latent_dims", 3), "unknown option --model.latent_dims; did you mean"),
        (("--model.latent_dim",), "--model.latent_dim has no value"),
        (("--trial", 3), "unknown option --trial; did you mean '--trials'?"),
        (("--config", "rating"), "--config rating: no such file"),
        (("--config", "paper", "--config", "paper"), "two configs are called paper"),
        (("--test", "none.jsonl"), "none.jsonl"),
        (("--model.max_length", 30), "were made with 60"),
        (("--data.validation", "v.jsonl"), "Leave data.validation out"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(call, tmp_path, more, words):
    run = vrm_pyro(*call(*more))
    assert run.code == 2
    assert words in run.err
    assert not (tmp_path / "out").exists()


def test_settings_are_told_apart_from_options():
    with pytest.raises(InputError, match="--train.seed has no value"):
        split_settings(["--out", "x", "--train.seed"])

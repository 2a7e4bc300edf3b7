"""The command line with two processes: torchrun starts them, gloo joins them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.process_cases import end_pair, start_pair
from helpers.text_rows import write_rows
from helpers.tiny_backbones import save_tiny_backbone
from helpers.workspace import succeed
from safetensors.torch import load_file

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


def torchrun(*arguments, processes=2):
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc_per_node={processes}", *map(str, arguments),
    ]  # fmt: skip


def finish(command, **options):
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, **options
    )


ROWS = ["--train.use_cpu", "true", "--train.num_train_epochs", "2"]
SCRIPT = TESTS.parent / "scripts" / "train_svi.py"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Options that train on rows with a tiny backbone, of 16 and 6 prompts."""
    folder = tmp_path_factory.mktemp("rows")
    backbone = save_tiny_backbone(folder / "backbone", "llama-chat")
    for name, size, seed in (("train", 16, 0), ("validation", 6, 90_000)):
        write_rows(folder / f"{name}.jsonl", size, seed)
    return [
        "--data.train", folder / "train.jsonl", "--data.validation", folder / "validation.jsonl",
        "--model.backbone", backbone, "--model.dtype", "float32", "--config", "bradley_terry",
        "--model.head_dropout", "0", *ROWS,
    ]  # fmt: skip


def last_line(text):
    return [line for line in text.splitlines() if line.startswith("validation:")]


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["frozen", "lora", "full"])
def test_the_command_line_with_two_processes(rows, tmp_path, tuning):
    """A backbone that is trained is in shards, where there are two processes."""
    options = [*rows, "--tuning.method", tuning, "--tuning.dropout", 0]
    options += ["--tuning.shard", str(tuning != "frozen").lower()]
    options += ["--train.activation_checkpointing", str(tuning == "lora").lower()]
    alone = [*options, "--train.per_device_train_batch_size", 6]
    succeed("train", *alone, "--train.output_dir", tmp_path / "one")
    two = [SCRIPT, *options, "--train.per_device_train_batch_size", 3]
    two += ["--train.output_dir", tmp_path / "two"]
    both = finish(torchrun(*two))
    assert both.returncode == 0, both.stderr[-3000:]
    assert len(last_line(both.stdout)) == 1  # one process talks
    names = [sorted(p.name for p in (tmp_path / name).iterdir()) for name in ("one", "two")]
    assert names[0] == names[1]
    metrics = [json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("one", "two")]
    assert metrics[1]["log_loss"] == pytest.approx(metrics[0]["log_loss"], rel=1e-3)
    if tuning == "frozen":  # states that two computed are those of one
        files = [sorted((tmp_path / n / "features").rglob("*.npy")) for n in ("one", "two")]
        assert len(files[0]) == len(files[1]) > 0
        for first, second in zip(*files, strict=True):
            assert first.read_bytes() == second.read_bytes(), first.name
    if tuning != "frozen":
        evaluate = ["--data", rows[rows.index("--data.validation") + 1], "--device", "cpu"]
        succeed("evaluate", "--model", tmp_path / "two", *evaluate, "--out", tmp_path / "m.json")
        found = json.loads((tmp_path / "m.json").read_text())
        assert found["log_loss"] == pytest.approx(metrics[1]["log_loss"], rel=1e-4)
    if tuning == "full":  # whole weights are kept, and read as any backbone's
        states = [load_file(tmp_path / n / "backbone/model.safetensors") for n in ("one", "two")]
        assert states[0].keys() == states[1].keys()
        for name, value in states[0].items():
            torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5)
        configs = [(tmp_path / n / "backbone/config.json").read_text() for n in ("one", "two")]
        assert configs[0] == configs[1]
    if tuning == "frozen":  # a finished folder is refused once, in words, by both together
        refused = finish(torchrun(*two))
        assert refused.returncode != 0
        assert refused.stderr.count("holds a finished run") == 1


MODEL = ["--model.max_length", 100]


@pytest.fixture(scope="module")
def finished(rows, tmp_path_factory):
    """A run of one process."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    options = [*rows, *MODEL, "--train.per_device_train_batch_size", 8]
    succeed("train", *options, "--train.output_dir", folder)
    return folder


@pytest.mark.slow
def test_features_and_scores_of_two_processes_are_those_of_one(rows, finished, tmp_path):
    data = rows[rows.index("--data.train") + 1]
    model = [*rows[rows.index("--model.backbone") :][:4], *MODEL]
    features = ["features", "--data", data, *model, "--device", "cpu"]
    score = ["score", "--model", finished, "--data", data, "--shard_rows", 10, "--device", "cpu"]
    commands = (features, "states"), (score, "scores.jsonl")
    words = "states of 16 prompts", "responses scored"
    for (verb, out), word in zip(commands, words, strict=True):
        codes, said = end_pair(
            start_pair("-m", "vrm_pyro.cli", *verb, "--out", tmp_path / "two" / out)
        )
        assert codes == [0, 0], said
        assert "".join(said).count(word) == 1  # one process talks
    for verb, out in commands:
        succeed(*verb, "--out", tmp_path / "one" / out)
    files = [
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")}
        for n in ("one", "two")
    ]
    assert len(files[0]) > 10
    assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "codes", "words"),
    [
        ("input", [1, 2], "[process 1] vrm-pyro train: something is wrong here."),
        ("kill", [1, -9], "vrm-pyro train: another process of this run ended without a message"),
    ],
)
def test_a_failure_in_one_process_is_said_once_and_ends_both(rows, tmp_path, kind, codes, words):
    program = TESTS / "helpers" / "failing_train.py"
    options = [*rows, *MODEL, "--train.per_device_train_batch_size", 4]
    options += ["--train.output_dir", tmp_path]
    found, said = end_pair(start_pair(program, *options, FAILS_BY=kind))
    assert found == codes, said
    assert "".join(said).count(words) == 1
    assert "".join(said).count("vrm-pyro train:") == 1


@pytest.mark.slow
def test_sigterm_to_one_process_saves_and_one_process_goes_on(rows, finished, tmp_path):
    program = TESTS / "helpers" / "failing_train.py"
    options = [*rows, *MODEL, "--train.output_dir", tmp_path / "run"]
    sizes = ["--train.per_device_train_batch_size", 4]
    codes, said = end_pair(start_pair(program, *options, *sizes, FAILS_BY="term"))
    assert codes == [143, 143], said
    assert "".join(said).count("A checkpoint was saved") == 1
    resume = ["--train.output_dir", tmp_path / "run", "--train.resume_from_checkpoint", "true"]
    done = succeed("train", *resume)
    assert "it resumes with 4 prompts in a batch and 2 batches in a step of each" in done.err
    metrics = [
        json.loads((run / "metrics.json").read_text()) for run in (finished, tmp_path / "run")
    ]
    assert metrics[1]["training"]["steps"] == metrics[0]["training"]["steps"]
    assert metrics[1]["log_loss"] == pytest.approx(metrics[0]["log_loss"], rel=1e-4)

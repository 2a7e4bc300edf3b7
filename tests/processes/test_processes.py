"""The command line with two processes: torchrun starts them, gloo joins them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_backbones import save_tiny_backbone
from tuning.test_tuning import write_rows

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
@pytest.mark.parametrize("tuning", ["frozen", "lora"])
def test_the_command_line_with_two_processes(rows, tmp_path, tuning):
    options = [*rows, "--tuning.method", tuning, "--tuning.dropout", 0]
    options += ["--train.activation_checkpointing", str(tuning == "lora").lower()]
    alone = [sys.executable, SCRIPT, *options, "--train.per_device_train_batch_size", 6]
    done = finish([*map(str, alone), "--train.output_dir", str(tmp_path / "one")])
    assert done.returncode == 0, done.stderr[-2000:]
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
    # A finished folder is refused once, in words, by both processes together.
    refused = finish(torchrun(*two))
    assert refused.returncode != 0
    assert refused.stderr.count("holds a finished run") == 1

"""Two processes train what one trains: torchrun starts them, gloo joins them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes.runs import BASELINE, POINT, Steps, run
from tiny_backbones import save_tiny_backbone
from tuning.test_tuning import write_rows

from vrm_pyro.resume import WholeBatch, read_state

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


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The runs of one process with batches of 8, and the folder of both kinds."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for name, config in (("baseline", BASELINE), ("point", POINT)):
        steps = Steps()
        result = run(config, folder / f"one_{name}", [steps], per_device_train_batch_size=8)
        found[name] = result, steps
    # For two processes to go on with, after 2 of 4 epochs.
    run(BASELINE, folder / "alone", per_device_train_batch_size=8, num_train_epochs=2)
    return found, folder


@pytest.fixture(scope="module")
def together(alone):
    """What two processes found, each with batches of 4."""
    folder = alone[1]
    done = finish(torchrun(TESTS / "processes" / "worker.py", folder))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "found.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["baseline", "point"])
def test_two_processes_train_what_one_trains(alone, together, name):
    result, steps = alone[0][name]
    found = together[name]
    # Every step: the last batch of an epoch has 3 prompts, 2 for one process and 1 for the other.
    assert found["gradients"] == pytest.approx(steps.gradients, rel=1e-4)
    for key, value in result.loaded.model.state_dict().items():
        if name == "baseline" and value.shape == (1,) and key.endswith("bias"):
            continue  # cancels in every pair: its gradient is rounding, which Adam makes a step of
        np.testing.assert_allclose(
            found["parameters"][key], value.flatten().numpy(), rtol=1e-3, atol=2e-5
        )
    for key in ("eval_log_loss", "eval_accuracy"):
        assert found["metrics"][key] == pytest.approx(result.metrics[key], rel=1e-4)


@pytest.mark.slow
def test_parameters_agree_and_noise_does_not(together):
    for name in ("baseline", "point", "vrm"):
        first, second = together[name]["digests"]
        assert first == second
    first, second = together["vrm"]["noise"]
    assert first != second


@pytest.mark.slow
def test_uneven_numbers_of_prompts_end(together):
    assert len(together["uneven"]) == 20
    for size, batch, digests, steps in together["uneven"]:
        assert digests[0] == digests[1], (size, batch)
        assert steps > 0


@pytest.mark.slow
def test_two_processes_go_on_with_a_run_of_one(together, tmp_path):
    whole = run(BASELINE, tmp_path / "w", per_device_train_batch_size=8, num_train_epochs=4)
    assert together["resumed"]["log_loss"] == pytest.approx(
        whole.metrics["eval_log_loss"], rel=1e-4
    )


@pytest.mark.slow
def test_one_process_goes_on_with_a_run_of_two(alone, together, tmp_path):
    folder = alone[1] / "baseline"
    state = read_state(folder / "checkpoint-12")
    assert state.stateful_callbacks[WholeBatch.__name__]["attributes"]["prompts"] == 8
    on = {"per_device_train_batch_size": 4, "num_train_epochs": 5}
    result = run(BASELINE, folder, **on, resume_from_checkpoint="true")
    whole = run(BASELINE, tmp_path / "w", per_device_train_batch_size=8, num_train_epochs=5)
    assert result.metrics["steps"] == whole.metrics["steps"] == 20
    assert result.metrics["eval_log_loss"] == pytest.approx(
        whole.metrics["eval_log_loss"], rel=1e-4
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

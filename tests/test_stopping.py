"""Signals, cut-off checkpoints and full disks: nothing that was computed is lost."""

import errno
import os
import signal

import pytest
import torch
from processes.runs import BASELINE, VRM, run
from transformers import TrainerCallback

from vrm_pyro.errors import InputError, Terminated
from vrm_pyro.resume import damage, find_checkpoint
from vrm_pyro.train import TrainArguments


class Signal(TrainerCallback):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, step, number=signal.SIGTERM):
        self.step, self.number = step, number

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), self.number)


def parameters(result):
    return result.loaded.model.state_dict()


SETTINGS = {"per_device_train_batch_size": 8, "num_train_epochs": 3}  # 4 steps an epoch


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(VRM, tmp_path_factory.mktemp("whole"), **SETTINGS)


# In the middle of an epoch, and on its last step, after which the epoch's evaluation is due.
@pytest.mark.parametrize("step", [0, 5, 7, 11])
def test_a_terminated_run_goes_on_as_if_it_had_not_been(whole, tmp_path, step):
    with pytest.raises(Terminated, match=r"--train\.resume_from_checkpoint true"):
        run(VRM, tmp_path, callbacks=[Signal(step)], **SETTINGS)
    assert damage(tmp_path / f"checkpoint-{step + 1}") is None
    result = run(VRM, tmp_path, resume_from_checkpoint="true", **SETTINGS)
    for name, value in parameters(whole).items():
        assert value.equal(parameters(result)[name]), name
    logs = [
        [entry["eval_log_loss"] for entry in found.log_history if "eval_log_loss" in entry]
        for found in (whole, result)
    ]
    assert logs[0] == logs[1]


def test_an_interrupt_saves_and_stays_an_interrupt(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="A checkpoint was saved"):
        run(BASELINE, tmp_path, callbacks=[Signal(1, signal.SIGINT)], save_strategy="no",
            load_best_model_at_end=False, **SETTINGS)  # fmt: skip
    assert damage(tmp_path / "checkpoint-2") is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def newest(folder):
    return find_checkpoint(TrainArguments(output_dir=str(folder), resume_from_checkpoint="true"))


STATE = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
FILES = ("trainer_state.json", "model.safetensors", *STATE)


@pytest.mark.parametrize("name", FILES)
def test_a_cut_checkpoint_is_named_and_the_one_before_is_used(tmp_path, caplog, name):
    settings = SETTINGS | {"num_train_epochs": 2, "save_total_limit": None}
    run(BASELINE, tmp_path, **settings)
    assert newest(tmp_path) == str(tmp_path / "checkpoint-8")
    path = tmp_path / "checkpoint-8" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert newest(tmp_path) == str(tmp_path / "checkpoint-4")
    assert "checkpoint-8" in caplog.text
    assert name in caplog.text


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed")],
)
def test_a_full_disk_is_said_and_the_checkpoint_before_stays(tmp_path, monkeypatch, error):
    real = torch.save

    def full(value, path, *args, **kwargs):
        if "checkpoint-8" in str(path):
            raise error
        return real(value, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"checkpoint-8.*could not be written.*MiB are free"):
        run(BASELINE, tmp_path, **SETTINGS)
    assert not (tmp_path / "checkpoint-8").exists()
    assert newest(tmp_path) == str(tmp_path / "checkpoint-4")
    monkeypatch.undo()
    result = run(BASELINE, tmp_path, resume_from_checkpoint="true", **SETTINGS)
    assert result.metrics["steps"] == 12


def test_other_faults_of_a_save_are_not_blamed_on_the_disk(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("something else")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="something else"):
        run(BASELINE, tmp_path, **SETTINGS)

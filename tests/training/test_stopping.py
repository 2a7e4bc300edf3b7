"""Signals, cut-off checkpoints and full disks: nothing that was computed is lost."""

import errno
import os
import resource
import signal

import pytest
import torch
from helpers.small_runs import BASELINE, VRM, run
from transformers import TrainerCallback

from vrm_pyro.errors import InputError, Terminated
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.manifest import MANIFEST, damage
from vrm_pyro.training.resume import find_checkpoint


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


def test_ctrl_c_under_a_launcher_saves_too(whole, tmp_path):
    """It sends SIGINT to all processes, and the launcher SIGTERM right after."""
    signals = [Signal(5, signal.SIGINT), Signal(5, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt, match="A checkpoint was saved"):
        run(VRM, tmp_path, callbacks=signals, **SETTINGS)
    assert damage(tmp_path / "checkpoint-6") is None


def test_a_second_interrupt_ends_at_once(tmp_path):
    signals = [Signal(5, signal.SIGINT), Signal(5, signal.SIGINT)]
    with pytest.raises(KeyboardInterrupt) as caught:
        run(VRM, tmp_path, callbacks=signals, **SETTINGS)
    assert not str(caught.value)
    assert not (tmp_path / "checkpoint-6").exists()


def test_an_interrupt_saves_and_stays_an_interrupt(tmp_path):
    before = signal.getsignal(signal.SIGINT)  # ignored where a shell started this behind itself
    with pytest.raises(KeyboardInterrupt, match="A checkpoint was saved"):
        run(BASELINE, tmp_path, callbacks=[Signal(1, signal.SIGINT)], save_strategy="no",
            load_best_model_at_end=False, **SETTINGS)  # fmt: skip
    assert damage(tmp_path / "checkpoint-2") is None
    assert signal.getsignal(signal.SIGINT) is before


def newest(folder):
    return find_checkpoint(TrainArguments(output_dir=str(folder), resume_from_checkpoint="true"))


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, caplog):
    settings = SETTINGS | {"num_train_epochs": 2, "save_total_limit": None}
    run(BASELINE, tmp_path, **settings)
    assert newest(tmp_path) == str(tmp_path / "checkpoint-8")
    files = {path: path.read_bytes() for path in (tmp_path / "checkpoint-8").iterdir()}
    state = {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    assert {path.name for path in files} > {MANIFEST, "trainer_state.json", *state}
    for path, content in files.items():
        middle = len(content) // 2
        changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        for damaged in (content[:middle], changed, None):
            if damaged is None:
                path.unlink()
            else:
                path.write_bytes(damaged)
            caplog.clear()
            assert newest(tmp_path) == str(tmp_path / "checkpoint-4"), path.name
            assert "checkpoint-8" in caplog.text
            # A digest that changed is that of another file.
            assert path.name == MANIFEST or path.name in caplog.text
            path.write_bytes(content)


def test_a_resumed_run_after_a_damaged_checkpoint_ends_as_it_would_have(whole, tmp_path):
    with pytest.raises(Terminated):
        run(VRM, tmp_path, callbacks=[Signal(9)], save_total_limit=None, **SETTINGS)
    path = tmp_path / "checkpoint-10" / "optimizer.pt"
    path.write_bytes(path.read_bytes()[:1000])
    result = run(VRM, tmp_path, resume_from_checkpoint="true", **SETTINGS)
    for name, value in parameters(whole).items():
        assert value.equal(parameters(result)[name]), name


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


def test_a_file_that_the_system_refuses_is_said(tmp_path):
    """Torch and safetensors have words of their own for it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (2_000, 10_000):  # the weights are too large, or the random state alone
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(InputError, match="could not be written"):
                run(BASELINE, tmp_path / str(size), **SETTINGS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_other_faults_of_a_save_are_not_blamed_on_the_disk(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("something else")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="something else"):
        run(BASELINE, tmp_path, **SETTINGS)

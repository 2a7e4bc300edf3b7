"""Resuming stopped runs, in cases that a plain stop does not cover."""

import json
import shutil

import numpy as np
import pyro
import pytest
from helpers.configs import network_config
from helpers.small_runs import StopAfter
from helpers.sources import NumberSource
from transformers import TrainerCallback

from vrm_pyro.errors import InputError
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.callbacks import VALIDATED_STEPS
from vrm_pyro.training.manifest import read_step, write_manifest
from vrm_pyro.training.resume import find_checkpoint, is_over, is_whole, read_state
from vrm_pyro.training.train import train


def number_source(num_prompts=24, seed=0):
    """Return four responses and three pairs a prompt; the sum of two states decides."""
    rng = np.random.default_rng(seed)
    responses = rng.normal(size=(4 * num_prompts, 5)).astype(np.float32)
    reward = responses[:, :2].sum(1) + 0.5 * rng.normal(size=len(responses))
    first = (4 * np.arange(num_prompts)[:, None] + np.arange(3)).ravel()
    return NumberSource(
        prompts=rng.normal(size=(num_prompts, 5)).astype(np.float32),
        responses=responses,
        response_prompt=np.repeat(np.arange(num_prompts), 4),
        pair_first=first,
        pair_second=first + 1,
        preference=(reward[first] > reward[first + 1]).astype(np.float64),
        pair_weight=np.ones(len(first)),
        ratings=np.zeros((len(responses), 0)),
    )


def arguments(folder, **settings):
    values = {"num_train_epochs": 4, "per_device_train_batch_size": 8, "use_cpu": True}
    return TrainArguments(
        **{"output_dir": str(folder), "disable_tqdm": True, **values, **settings}
    )


def run(folder, callbacks=None, **settings):
    sources = number_source(), number_source(8, seed=1)
    return train(network_config(), arguments(folder, **settings), *sources, callbacks=callbacks)


def stop(folder, steps, **settings):
    with pytest.raises(KeyboardInterrupt):
        run(folder, callbacks=[StopAfter(steps)], **settings)


def assert_same(first, second):
    states = first.loaded.model.state_dict(), second.loaded.model.state_dict()
    assert [n for n in states[0] if not states[0][n].equal(states[1][n])] == []
    assert first.metrics["eval_log_loss"] == second.metrics["eval_log_loss"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 12 steps, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return run(folder), folder


def test_a_run_that_was_moved_finds_its_best_checkpoint(whole, tmp_path):
    stop(tmp_path / "here", 11)
    moved = shutil.move(tmp_path / "here", tmp_path / "there")
    assert_same(whole[0], run(moved, resume_from_checkpoint="true"))


def test_a_run_moved_after_its_last_step(whole, tmp_path):
    moved = shutil.copytree(whole[1], tmp_path / "there")
    assert_same(whole[0], run(moved, resume_from_checkpoint="true", callbacks=[StopAfter(0)]))


def test_after_max_steps_no_step_is_taken(tmp_path):
    # Five steps end in the middle of an epoch, where the Trainer itself would take a sixth.
    limit = {"max_steps": 5, "save_strategy": "steps", "eval_strategy": "steps"}
    limit |= {"save_steps": 5, "eval_steps": 5}
    first = run(tmp_path, **limit)
    again = run(tmp_path, resume_from_checkpoint="true", callbacks=[StopAfter(0)], **limit)
    assert again.metrics["steps"] == 5
    assert_same(first, again)


def test_a_lost_best_checkpoint_is_an_error(whole, tmp_path):
    folder = shutil.copytree(whole[1], tmp_path / "run")
    newest = folder / "checkpoint-12"
    state = json.loads((newest / "trainer_state.json").read_text())
    state |= {"best_global_step": 3}
    (newest / "trainer_state.json").write_text(json.dumps(state))
    write_manifest(newest, read_step(newest))
    with pytest.raises(InputError, match=r"checkpoint-3.*gone or damaged"):
        run(folder, resume_from_checkpoint="true")


def test_training_that_diverges_says_what_to_lower(tmp_path):
    with pytest.raises(InputError, match=r"diverged.*train\.learning_rate \(it is 1e\+20\)"):
        run(tmp_path, learning_rate=1e20, max_grad_norm=0.0)


class Poison(TrainerCallback):
    """Make one weight infinite at the start of a step; note whether Pyro validates."""

    def __init__(self, step):
        self.step, self.validated = step, []

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self.validated.append(pyro.infer.util.is_validation_enabled())
        if state.global_step == self.step:
            next(model.parameters()).data.view(-1)[0] = float("inf")


def test_validation_is_on_for_the_first_steps_alone(tmp_path):
    poison = Poison(step=None)
    run(tmp_path, callbacks=[poison], num_train_epochs=5)
    assert poison.validated == [True] * VALIDATED_STEPS + [False] * (15 - VALIDATED_STEPS)
    assert pyro.infer.util.is_validation_enabled()


@pytest.mark.filterwarnings("ignore:Encountered NaN")  # Pyro's own word on it
@pytest.mark.parametrize("objective", ["sampled", "pairwise"])
@pytest.mark.parametrize(
    "settings",
    [
        {"logging_steps": 5},
        # No entry of the log after it, and no earlier weights to go back to: seen at the end.
        {"logging_steps": 100, "save_strategy": "no", "load_best_model_at_end": False},
    ],
    ids=["at a log entry", "at the end"],
)
def test_divergence_is_seen_without_validation_too(tmp_path, objective, settings):
    sources = number_source(), number_source(8, seed=1)
    with pytest.raises(InputError, match="diverged"):
        train(
            network_config(objective=objective),
            arguments(tmp_path, num_train_epochs=6, **settings),
            *sources,
            callbacks=[Poison(VALIDATED_STEPS + 2)],
        )


class TestFindCheckpoint:
    def found(self, folder, wanted="true"):
        return find_checkpoint(arguments(folder, resume_from_checkpoint=wanted))

    def test_newest_by_number(self, whole, tmp_path):
        shutil.copytree(whole[1] / "checkpoint-12", tmp_path / "checkpoint-9")
        shutil.copytree(whole[1] / "checkpoint-12", tmp_path / "checkpoint-100")
        assert self.found(tmp_path) == str(tmp_path / "checkpoint-100")

    @pytest.mark.parametrize("damage", ["no state", "cut state", "no weights", "empty"])
    def test_damaged_ones_are_passed_over(self, whole, tmp_path, damage):
        shutil.copytree(whole[1] / "checkpoint-12", tmp_path / "checkpoint-3")
        half = shutil.copytree(whole[1] / "checkpoint-12", tmp_path / "checkpoint-6")
        state = half / "trainer_state.json"
        if damage == "no state":
            state.unlink()
        elif damage == "cut state":
            state.write_text(state.read_text()[:50])
        elif damage == "no weights":
            (half / "model.safetensors").unlink()
        else:
            shutil.rmtree(half)
            half.mkdir()
        assert not is_whole(half)
        assert self.found(tmp_path) == str(tmp_path / "checkpoint-3")

    @pytest.mark.parametrize("wanted", [None, "false", ""])
    def test_not_asked_for(self, whole, wanted):
        assert self.found(whole[1], wanted) is None


def test_is_over_counts_evaluations_since_the_best(tmp_path):
    made = arguments(tmp_path)
    state = read_state_of([0.6, 0.5, 0.55, 0.52])
    assert not is_over(made, state, patience=3)
    assert is_over(made, state, patience=2)
    assert not is_over(made, state, patience=0)
    equal = read_state_of([0.5, 0.5, 0.5])  # as good as the best is no improvement
    assert is_over(made, equal, patience=2)


def read_state_of(losses):
    from transformers import TrainerState

    entries = [{"eval_log_loss": loss, "step": step} for step, loss in enumerate(losses)]
    return TrainerState(log_history=entries)


def test_state_of_a_checkpoint(whole):
    state = read_state(whole[1] / "checkpoint-12")
    assert state.global_step == 12
    assert state.best_global_step == whole[0].metrics["best_step"]

"""Two processes take the steps of one: the same prompts, each once, and the same numbers."""

import pytest
import torch
from helpers.process_cases import frozen, run_case, run_pair, sharded

from vrm_pyro.errors import InputError
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.manifest import StepShape, read_step
from vrm_pyro.training.run.settings import check_arguments
from vrm_pyro.training.trainer import use_one_device

UNEVEN = [f"uneven-{seed}" for seed in range(20)]
SHARDED = ["sharded", "sharded-lora", "sharded-budget", "sharded-later"]
EQUAL = ["frozen", "sampled", "lora", "full", "budget", *SHARDED, *UNEVEN]
STOPPED = ["signal", "resume", "sharded-stop", "sharded-resume"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder where one process was cut off in runs of its own."""
    folder = tmp_path_factory.mktemp("processes")
    assert run_case("cut", folder / "cut") == 3
    assert run_case("sharded-cut", folder / "sharded-cut") == 4
    return folder


@pytest.fixture(scope="module")
def pair(place):
    """What each of two processes held at the end of every case."""
    return run_pair(place, [*EQUAL, "sharded-low", "noisy", *STOPPED])


def assert_as_one(pair, one):
    """What two processes hold is the same in both, and what a single process has."""
    for held in pair:
        assert held["state"].keys() == one["state"].keys()
        for name, value in one["state"].items():
            assert held["state"][name].equal(pair[0]["state"][name]), name
            # Sums over prompts in another order.
            torch.testing.assert_close(held["state"][name], value, rtol=1e-4, atol=1e-6)
        assert held["steps"] == one["steps"]
        assert held["losses"] == pytest.approx(one["losses"], rel=1e-5)
        assert len(held["evaluations"]) == len(one["evaluations"])
        for found, wanted in zip(held["evaluations"], one["evaluations"], strict=True):
            assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", EQUAL)
def test_two_processes_train_as_one(pair, tmp_path, case):
    assert_as_one(pair[case], run_case(case, tmp_path))


@pytest.mark.slow
def test_each_process_has_its_own_noise(pair):
    first, second = pair["noisy"]
    assert not first["random"].equal(second["random"])
    assert all(first["state"][name].equal(second["state"][name]) for name in first["state"])


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_with_two(pair, tmp_path):
    assert_as_one(pair["resume"], run_case("frozen", tmp_path))


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_with_one(pair, place, tmp_path):
    """The signal came to one of the two, within an epoch."""
    assert pair["signal"] == [4, 4]
    assert read_step(place / "signal" / "checkpoint-4") == StepShape(2, 4, 1)
    resumed = frozen(place / "signal", resume_from_checkpoint="true")
    one = run_case("frozen", tmp_path)
    assert len(resumed["losses"]) == 9
    assert_as_one([resumed], one)


@pytest.mark.slow
def test_a_run_with_whole_weights_goes_on_in_shards(pair, tmp_path):
    assert_as_one(pair["sharded-resume"], run_case("sharded", tmp_path))


@pytest.mark.slow
def test_a_run_in_shards_goes_on_with_whole_weights(pair, place, tmp_path):
    assert pair["sharded-stop"] == [4, 4]
    resumed = sharded(place / "sharded-stop", resume_from_checkpoint="true")
    assert_as_one([resumed], run_case("sharded", tmp_path))


@pytest.mark.slow
def test_shards_in_bfloat16_are_near_mixed_precision(pair, tmp_path):
    """What is multiplied is bfloat16 in both; between layers, shards hand on bfloat16, too."""
    first, second = pair["sharded-low"]
    one = run_case("sharded-low", tmp_path)
    assert all(first["state"][name].equal(second["state"][name]) for name in first["state"])
    assert first["losses"] == pytest.approx(one["losses"], rel=2e-2)
    assert first["losses"] != one["losses"]


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_sharded_weights_are_refused_also_where_accelerate_asks(tmp_path, monkeypatch, name):
    arguments = TrainArguments(output_dir=str(tmp_path), use_cpu=True)
    check_arguments(arguments)
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(InputError, match=f"accelerate's configuration asks for {name.lower()}"):
        check_arguments(arguments)


def test_a_single_process_takes_one_of_several_gpus(tmp_path, caplog):
    arguments = TrainArguments(output_dir=str(tmp_path), use_cpu=True)
    assert arguments.device.type == "cpu"
    arguments._n_gpu = 4  # as transformers counts them
    assert arguments.train_batch_size == 4 * arguments.per_device_train_batch_size
    use_one_device(arguments)
    assert arguments.train_batch_size == arguments.per_device_train_batch_size
    assert "torchrun --nproc_per_node 4" in caplog.text

"""Two processes take the steps of one: the same prompts, each once, and the same numbers."""

import numpy as np
import pytest
import torch
from processes.cases import frozen, run_case, run_pair, sharded

from vrm_pyro.errors import InputError
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.distributed.global_batches import GlobalBatches
from vrm_pyro.training.distributed.step_shares import deal
from vrm_pyro.training.finetuning import TokenBatches
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


class TestDeal:
    @pytest.mark.parametrize(
        ("before", "processes", "now"),
        [
            ((2, 8, 1), 1, (8, 2)),
            ((1, 8, 2), 2, (8, 1)),
            ((1, 8, 1), 2, (4, 1)),  # smaller batches where there are not enough of them
            ((1, 8, 3), 2, (6, 2)),
            ((4, 8, 1), 8, (4, 1)),
            ((8, 8, 1), 6, None),
            ((2, 3, 1), 4, None),
        ],
    )
    def test_same_prompts_in_a_step(self, before, processes, now):
        shape = StepShape(*before)
        if now is None:
            with pytest.raises(InputError, match="cannot share evenly"):
                deal(shape, processes, fixed_batches=False)
            return
        found = deal(shape, processes, fixed_batches=False)
        assert found == StepShape(processes, *now)
        assert found.prompts == shape.prompts

    def test_groups_of_a_token_budget_stay(self):
        assert deal(StepShape(2, 8, 1), 1, fixed_batches=True) == StepShape(1, 8, 2)
        with pytest.raises(InputError, match="1 batches of a token budget"):
            deal(StepShape(1, 8, 1), 2, fixed_batches=True)


class TestShares:
    @pytest.mark.parametrize("processes", [1, 2, 3])
    @pytest.mark.parametrize("size", [1, 7, 12, 13])
    def test_each_prompt_once_in_an_epoch(self, size, processes):
        shares = [GlobalBatches(size, 2, 0, r, processes) for r in range(processes)]
        orders = []
        for epoch in (0, 1):
            for share in shares:
                share.set_epoch(epoch)
            turns = list(zip(*shares, strict=True))
            assert len(turns) == len(shares[0]) == -(-size // (2 * processes))
            order = [i for turn in turns for batch in turn for i in batch if i >= 0]
            assert sorted(order) == list(range(size))
            assert all(len(b) <= 2 and (len(b) == 1 or min(b) >= 0) for t in turns for b in t)
            orders.append(order)
        assert size == 1 or orders[0] != orders[1]

    def test_drop_last(self):
        assert len(GlobalBatches(13, 2, 0, 0, 2, drop_last=True)) == 3

    @pytest.mark.parametrize("processes", [1, 2, 4])
    def test_token_batches_come_once_too(self, processes):
        lengths = np.arange(1, 20)
        shares = [TokenBatches(lengths, 4, 40, 0, r, processes) for r in range(processes)]
        turns = list(zip(*shares, strict=True))
        seen = [i for turn in turns for batch in turn for i in batch if i >= 0]
        assert sorted(seen) == list(range(19))

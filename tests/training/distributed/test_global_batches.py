"""Batches and random numbers of several processes, seen from one."""

from unittest.mock import Mock

import numpy as np
import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from helpers.small_runs import VRM, number_source
from transformers import TrainerControl, TrainerState

from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.distributed.global_batches import GlobalBatches, OrderOfEpochs, OwnNoise
from vrm_pyro.training.finetuning import TokenBatches
from vrm_pyro.training.train import train
from vrm_pyro.training.trainer import ModelTrainer


class Started(Exception):
    """Raised in place of the first step."""


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 7, 12, 13])
def test_each_prompt_once_in_an_epoch(size, processes):
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


def epochs_of(batches, marks):
    """Return the items of an epoch that begins at each of some states of a training."""
    callback, found = OrderOfEpochs(batches), []
    for mark in marks:
        state = TrainerState(epoch=mark)
        callback.on_epoch_begin(Mock(spec=TrainArguments), state, TrainerControl())
        found.append([i for batch in batches for i in batch])
    return found


def test_epochs_have_the_orders_of_transformers_own_sampler():
    sampler = SeedableRandomSampler(range(13), data_seed=5, generator=torch.Generator())
    expected = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        expected.append(list(sampler))
    assert epochs_of(GlobalBatches(13, 4, 5, 0, 1), [None, 1.0, 2.0]) == expected
    # A resume within the second epoch.
    assert epochs_of(GlobalBatches(13, 4, 5, 0, 1), [1.4]) == expected[1:2]


def test_token_batches_have_another_order_in_each_epoch():
    first, second, within = epochs_of(TokenBatches(np.arange(1, 20), 4, 40, 0), [0, 1.0, 1.5])
    assert first != second == within
    assert sorted(first) == sorted(second)


def test_drop_last():
    assert len(GlobalBatches(13, 2, 0, 0, 2, drop_last=True)) == 3


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_token_batches_come_once_too(processes):
    lengths = np.arange(1, 20)
    shares = [TokenBatches(lengths, 4, 40, 0, r, processes) for r in range(processes)]
    turns = list(zip(*shares, strict=True))
    seen = [i for turn in turns for batch in turn for i in batch if i >= 0]
    assert sorted(seen) == list(range(19))


def noise(rank, world_size=2, seed=3, step=0):
    """Return a number drawn after training begins in a process; all start from one state."""
    torch.manual_seed(0)
    arguments = Mock(spec=TrainArguments, seed=seed, process_index=rank, world_size=world_size)
    OwnNoise().on_train_begin(arguments, TrainerState(global_step=step), TrainerControl())
    return torch.rand(()).item()


def test_each_process_step_and_seed_has_its_own_noise():
    ways = [{}, {"step": 7}, {"seed": 4}]
    drawn = [noise(rank, **way) for rank in range(3) for way in ways]
    assert len(set(drawn)) == 9
    assert drawn == [noise(rank, **way) for rank in range(3) for way in ways]
    # A single process draws on from the seed of the run, unless it resumes.
    torch.manual_seed(0)
    untouched = torch.rand(()).item()
    assert noise(0, world_size=1) == untouched
    assert noise(0, world_size=1, step=7) == noise(0, step=7)


def test_training_on_two_processes_has_shared_batches_and_own_noise(tmp_path, monkeypatch):
    seen = []

    def start(trainer, **_):
        seen.append(trainer)
        raise Started

    monkeypatch.setattr(TrainArguments, "world_size", property(lambda _: 2))
    monkeypatch.setattr(TrainArguments, "process_index", property(lambda _: 1))
    monkeypatch.setattr(ModelTrainer, "train", start)
    made = TrainArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=4, seed=6, data_seed=9, use_cpu=True
    )
    with pytest.raises(Started):
        train(VRM, made, number_source(10, 0), number_source(4, 1))
    batches, callbacks = seen[0].batches, seen[0].callback_handler.callbacks
    assert list(batches) == list(GlobalBatches(10, 4, 9, 1, 2))
    assert [c.batches for c in callbacks if isinstance(c, OrderOfEpochs)] == [batches]
    assert sum(isinstance(c, OwnNoise) for c in callbacks) == 1

import numpy as np
import pytest

from vrm_pyro.training.distributed.global_batches import GlobalBatches
from vrm_pyro.training.finetuning import TokenBatches


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


def test_drop_last():
    assert len(GlobalBatches(13, 2, 0, 0, 2, drop_last=True)) == 3


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_token_batches_come_once_too(processes):
    lengths = np.arange(1, 20)
    shares = [TokenBatches(lengths, 4, 40, 0, r, processes) for r in range(processes)]
    turns = list(zip(*shares, strict=True))
    seen = [i for turn in turns for batch in turn for i in batch if i >= 0]
    assert sorted(seen) == list(range(19))

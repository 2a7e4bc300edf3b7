"""Batches of prompts that hold about equally many tokens."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from vrm_pyro.data.dataset import idle


class TokenBatches(Sampler[list[int]]):
    """Groups items of like length; their order is new in every epoch, the groups are not.

    So the number of batches is the same in every epoch and process, as a schedule of the learning
    rate and a meeting of processes need it. Processes take turns; one without a batch in the
    last turn is idle there.

    Args:
        lengths: Tokens of each item.
        max_items: Most items in a batch.
        max_tokens: Most tokens, items padded to the longest; a longer item stands alone.
        seed: Decides the groups among items of like length, and the order.
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        max_items: int,
        max_tokens: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.seed, self.rank, self.world_size, self.epoch = seed, rank, world_size, 0
        generator = np.random.default_rng(seed)
        order = np.lexsort((generator.random(len(lengths)), -lengths))
        self.batches: list[list[int]] = []
        start = 0
        while start < len(order):
            fit = max(1, min(max_items, max_tokens // max(1, int(lengths[order[start]]))))
            self.batches.append(order[start : start + fit].tolist())
            start += fit

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the batches."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.batches) // self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(len(self.batches))
        # The longest first, once: what does not fit in memory fails at once, not after hours.
        if self.epoch == 0:
            order = np.concatenate([[0], order[order != 0]])
        for turn in range(len(self)):
            place = turn * self.world_size + self.rank
            # Idle with the shortest item.
            yield self.batches[order[place]] if place < len(order) else idle(self.batches[-1][-1])

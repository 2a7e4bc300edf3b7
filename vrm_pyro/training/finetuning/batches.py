"""Batches of prompts with about equally many tokens."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int
from torch.utils.data import Sampler

from vrm_pyro.data.dataset import idle


class TokenBatches(Sampler[list[int]]):
    """Group items of similar length into batches; each epoch has a new order of the same groups.

    The number of batches is the same in every epoch and process, as learning rate schedules and
    synchronised processes need. Processes take the batches in turn. A process without a batch in
    the last turn runs a dummy.

    Args:
        lengths: Tokens of each item, shape (items,).
        max_items: Largest number of items in a batch.
        max_tokens: Largest number of tokens in a batch, padding included. An item longer than
            this is a batch of its own.
        seed: Seed of the groups among items of equal length, and of the order.
        rank: Index of this process.
        world_size: Number of processes.

    Examples:
        >>> batches = TokenBatches(np.array([3, 9, 4, 10]), max_items=4, max_tokens=20, seed=0)
        >>> batches.batches
        [[3, 1], [2, 0]]
    """

    def __init__(
        self,
        lengths: Int[np.ndarray, " items"],
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
        """Set the epoch, which decides the order of the batches."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.batches) // self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(len(self.batches))
        # Run the longest batch first: if memory does not suffice, fail now, not after hours.
        if self.epoch == 0:
            order = np.concatenate([[0], order[order != 0]])
        for turn in range(len(self)):
            place = turn * self.world_size + self.rank
            # The dummy is the shortest item.
            yield self.batches[order[place]] if place < len(order) else idle(self.batches[-1][-1])

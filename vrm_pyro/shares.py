"""Batches of a training set for each of several processes that take its steps together."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler


def idle(item: int) -> list[int]:
    """Return a batch that takes part in a step and counts for nothing.

    A process without an item of its own in the last step of an epoch has to compute something:
    the others wait for its gradients. See :meth:`vrm_pyro.batch.PromptDataset.__getitem__`.
    """
    return [-1 - item]


class PromptShares(Sampler[list[int]]):
    """Deals out the batches of one process to several.

    Together, ``world_size`` batches of ``batch_size`` hold the items that one process with
    batches of ``world_size * batch_size`` draws, in transformers' own order. In the last ones of
    an epoch items are spread evenly, and none comes twice: samplers that fill up the last batches
    with items from the first ones make a step of other prompts than a single process.

    Args:
        num_items: Items in the training set.
        batch_size: Items of one process in a batch.
        seed: Decides the order, with the number of the epoch.
        rank: Number of this process.
        world_size: Number of processes.
        drop_last: Whether to leave out what does not fill the batches of all.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        drop_last: bool = False,
    ) -> None:
        self.num_items, self.together = num_items, batch_size * world_size
        self.seed, self.rank, self.world_size, self.epoch = seed, rank, world_size, 0
        self.drop_last = drop_last

    def set_epoch(self, epoch: int) -> None:
        """Choose the order."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(self.num_items, self.together)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.num_items, generator=generator).numpy()
        for turn in range(len(self)):
            items = order[turn * self.together : (turn + 1) * self.together]
            share = np.array_split(items, self.world_size)[self.rank].tolist()
            yield share or idle(int(items[0]))


class EpochLoader(DataLoader[Any]):
    """A loader that hands the number of the epoch on to its batch sampler.

    transformers sets it on loaders and on samplers below accelerate's own, not on a plain one.
    """

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        choose: Any = getattr(self.batch_sampler, "set_epoch", None)
        if choose is not None:
            choose(epoch)


def in_turn(num_items: int, batch_size: int) -> Sequence[list[int]]:
    """Return the items from first to last in batches."""
    starts = range(0, num_items, batch_size)
    return [list(range(start, min(start + batch_size, num_items))) for start in starts]

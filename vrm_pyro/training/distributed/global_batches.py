"""Batches that several processes share as one: the same ones whatever their number."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vrm_pyro.data.dataset import idle
from vrm_pyro.training.finetuning import TokenBatches


class GlobalBatches(Sampler[list[int]]):
    """Cuts an epoch into batches for all processes together, and each of them into shares.

    A single process with batches of the same whole size takes the same prompts in the same steps:
    the order is that of transformers' own sampler. The last batch of an epoch is shared out as
    evenly as it goes; a process for which it has no item is idle there
    (:func:`vrm_pyro.data.dataset.idle`).

    Args:
        num_items: Items of an epoch.
        batch_size: Items of one process in a batch.
        seed: Decides the order, together with the epoch.
        rank: Number of this process.
        world_size: Number of processes.
        drop_last: Whether to leave out a batch that is not full.
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
        self.drop_last = drop_last
        self.num_items, self.whole = num_items, batch_size * world_size
        self.seed, self.rank, self.world_size, self.epoch = seed, rank, world_size, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the items."""
        self.epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(self.num_items, self.whole)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.num_items, generator=generator)
        for batch in order.split(self.whole)[: len(self)]:
            share = batch.tensor_split(self.world_size)[self.rank].tolist()
            yield share or idle(int(batch[0]))


class OrderOfEpochs(TrainerCallback):
    """Tells a sampler of batches which epoch it is: transformers only tells its own."""

    def __init__(self, batches: GlobalBatches | TokenBatches) -> None:
        self.batches = batches

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """Set the epoch; after a resume inside one, it is that one."""
        self.batches.set_epoch(int(state.epoch or 0))


class OwnNoise(TrainerCallback):
    """Gives each process random numbers of its own.

    All build the same model from one seed. With the same draws afterwards, further processes
    would not lower the variance of the gradient. A resume on as many processes then loads the
    random state of each; on another number, draws go on from here.
    """

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """Seed by run, process and step."""
        if args.world_size > 1 or state.global_step:
            mixed = (args.seed * 1_000_003 + args.process_index) * 1_000_003 + state.global_step
            torch.manual_seed(mixed % 2**63)

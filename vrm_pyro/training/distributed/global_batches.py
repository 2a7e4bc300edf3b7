"""Global batches split over processes, identical for any number of processes."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vrm_pyro.data.dataset import idle
from vrm_pyro.training.finetuning import TokenBatches


class GlobalBatches(Sampler[list[int]]):
    """Sample global batches of an epoch; each process gets its share of every batch.

    A single process with the same global batch size takes the same prompts in the same steps, in
    the order of transformers' own sampler. The last batch of an epoch is split as evenly as
    possible. A process without an item there runs a dummy batch that is not counted
    (:func:`vrm_pyro.data.dataset.idle`).

    Args:
        num_items: Items in an epoch.
        batch_size: Items of one process in a batch.
        seed: Seed of the order; each epoch has its own order.
        rank: Index of this process.
        world_size: Number of processes.
        drop_last: Whether to drop a last batch that is not full.

    Examples:
        Two processes, two items each in a step; together they see every item once.

        >>> shares = [list(GlobalBatches(5, 2, 0, rank, 2)) for rank in range(2)]
        >>> [len(share) for share in shares]
        [2, 2]
        >>> sorted(i for share in shares for batch in share for i in batch if i >= 0)
        [0, 1, 2, 3, 4]
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
        """Set the epoch, which decides the order of the items."""
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
    """Set the epoch of a batch sampler; transformers does so for its own samplers only."""

    def __init__(self, batches: GlobalBatches | TokenBatches) -> None:
        self.batches = batches

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """Set the epoch. After a resume within an epoch, it is that epoch."""
        self.batches.set_epoch(int(state.epoch or 0))


class OwnNoise(TrainerCallback):
    """Give each process its own random numbers.

    All processes build the same model from one seed. If they also drew the same latents, more
    processes would not lower the variance of the gradient. A resume on the same number of
    processes then loads the random state of each; on another number, draws start from here.
    """

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """Seed torch by run, process and step."""
        if args.world_size > 1 or state.global_step:
            mixed = (args.seed * 1_000_003 + args.process_index) * 1_000_003 + state.global_step
            torch.manual_seed(mixed % 2**63)

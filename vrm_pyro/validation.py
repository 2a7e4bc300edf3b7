"""Validation by one process or several: each takes some prompts, sums are put together."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Sampler

# What validation gives, and training can be judged by.
VALIDATION_METRICS = ("log_loss", "accuracy", "elbo", "elbo_given_ratings")


class OwnShare(Sampler[list[int]]):
    """The batches of one process: every item is in one batch of one process.

    transformers' own sampling would repeat items to make batches full; a batch that holds a
    prompt two times has its pairs once.

    Args:
        num_items: Items of the data set.
        batch_size: Most items in a batch.
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(self, num_items: int, batch_size: int, rank: int, world_size: int) -> None:
        items = np.arange(num_items)
        turns = -(-num_items // (batch_size * world_size))
        if world_size == 1:
            cuts = [items[first : first + batch_size] for first in range(0, num_items, batch_size)]
        else:
            cuts = np.array_split(items, turns * world_size)[rank::world_size]
        self.batches = [cut.tolist() for cut in cuts if len(cut)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


class Totals:
    """Sums over prompts of what :meth:`TrainingModule.forward` gives for each in evaluation.

    Args:
        device: Where processes put their sums together.
    """

    def __init__(self, device: torch.device) -> None:
        # Log score, hits, weight, ELBO, its part of preferences, number of prompts.
        self.values = torch.zeros(6, dtype=torch.float64, device=device)

    def add(self, sums: Tensor) -> None:
        """Add the prompts of a batch.

        Args:
            sums: Five numbers for each, shape (P, 5).
        """
        self.values[:5] += sums.detach().double().sum(0)
        self.values[5] += len(sums)

    def metrics(self, world_size: int) -> tuple[dict[str, float], int]:
        """Return the metrics over all prompts of all processes, and the number of prompts."""
        if world_size > 1:
            dist.all_reduce(self.values)
        log_prob, right, weight, elbo, given_ratings, count = self.values.tolist()
        values = (-log_prob / weight, right / weight, elbo / count, given_ratings / count)
        return dict(zip(VALIDATION_METRICS, values, strict=True)), int(count)

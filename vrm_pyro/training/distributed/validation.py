"""Validation by one process or several: each takes some prompts, sums are put together."""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Sampler

from vrm_pyro.data.dataset import idle

# What validation gives, and training can be judged by.
VALIDATION_METRICS = ("log_loss", "accuracy", "elbo", "elbo_given_ratings")


class OwnShare(Sampler[list[int]]):
    """The batches of one process, which takes its turn at those that a single one would have.

    So the numbers are the same whatever the number of processes, also those that rest on a few
    draws for each batch. transformers' own sampling would repeat items to make batches full; a
    batch that holds a prompt two times has its pairs once.

    Args:
        num_items: Items of the data set.
        batch_size: Most items in a batch.
        rank: Number of this process.
        world_size: Number of processes.
        together: Whether all take part in each turn, those without a batch in the last one idly
            (:func:`vrm_pyro.data.dataset.idle`), as sharded weights need it.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        rank: int,
        world_size: int,
        together: bool = False,
    ) -> None:
        starts = range(0, num_items, batch_size)
        batches = [list(range(i, min(i + batch_size, num_items))) for i in starts]
        if together:
            batches += [idle(0)] * (-len(batches) % world_size)
        self.batches = batches[rank::world_size]

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

"""Validation on one or several processes: each evaluates some prompts, then sums are added."""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Sampler

from vrm_pyro.data.dataset import idle

# The metrics of validation; ``train.metric_for_best_model`` names one of them.
VALIDATION_METRICS = ("log_loss", "accuracy", "elbo", "elbo_given_ratings", "rating_log_score")


class OwnShare(Sampler[list[int]]):
    """The validation batches of one process: every ``world_size``-th batch of a single process.

    Metrics are then the same for any number of processes, including those that use a few draws
    for each batch. transformers' own sampler would repeat items to fill batches.

    Args:
        num_items: Items in the data set.
        batch_size: Largest number of items in a batch.
        rank: Index of this process.
        world_size: Number of processes.
        together: Whether all processes run the same number of batches, as sharded weights need.
            A process without a last batch runs a dummy (:func:`vrm_pyro.data.dataset.idle`).

    Examples:
        >>> [list(OwnShare(5, 2, rank, 2)) for rank in range(2)]
        [[[0, 1], [4]], [[2, 3]]]
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
    """Sums over prompts of the values that :meth:`TrainingModule.forward` returns in evaluation.

    Args:
        device: Device on which processes add their sums.

    Examples:
        One prompt with one pair: log score -0.25, correct, weight 1; and no rating.

        >>> totals = Totals(torch.device("cpu"))
        >>> totals.add(torch.tensor([[-0.25, 1.0, 1.0, -2.0, -0.5, 0.0, 0.0]]))
        >>> metrics, prompts = totals.metrics(world_size=1)
        >>> metrics["log_loss"], metrics["accuracy"], prompts
        (0.25, 1.0, 1)
    """

    def __init__(self, device: torch.device) -> None:
        # Log score, correct pairs, pair weight, ELBO, its preference part, log score of ratings,
        # their number, number of prompts.
        self.values = torch.zeros(8, dtype=torch.float64, device=device)

    def add(self, sums: Float[Tensor, "prompts 7"]) -> None:
        """Add the prompts of a batch: seven sums for each prompt."""
        self.values[:7] += sums.detach().double().sum(0)
        self.values[7] += len(sums)

    def metrics(self, world_size: int) -> tuple[dict[str, float], int]:
        """Return the metrics over all prompts of all processes, and the number of prompts.

        Rates of pairs only where there are any, and likewise of ratings.
        """
        if world_size > 1:
            dist.all_reduce(self.values)
        log_prob, right, weight, elbo, given_ratings, rating, ratings, count = self.values.tolist()
        found = {"log_loss": -log_prob / weight, "accuracy": right / weight} if weight else {}
        found |= {"elbo": elbo / count, "elbo_given_ratings": given_ratings / count}
        return found | ({"rating_log_score": rating / ratings} if ratings else {}), int(count)

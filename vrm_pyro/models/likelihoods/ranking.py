"""Plackett-Luce distribution of a ranking of several responses."""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints


class _Rankings(constraints.Constraint):
    """Constraint: the first entries of a row name every present item once; the rest is ignored."""

    is_discrete = True
    event_dim = 1

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def check(self, value: Tensor) -> Tensor:
        """Return whether each row is a valid ranking; the last dimension is reduced."""
        mask = self.mask.expand(torch.broadcast_shapes(self.mask.shape, value.shape))
        value = value.expand(mask.shape)
        size = mask.shape[-1]
        ranked = _leading(mask)
        inside = (value >= 0) & (value < size)
        # Count padded and out-of-range entries in an additional column.
        index = torch.where(ranked & inside, value, size).long()
        times = value.new_zeros(*mask.shape[:-1], size + 1, dtype=torch.long)
        times = times.scatter_add(-1, index, torch.ones_like(index))[..., :size]
        return (times == mask.long()).all(-1)


class Ranking(dist.TorchDistribution):
    """p(ranking) = prod_p e^{r_p} / sum_{q >= p} e^{r_q}, r_p the reward at rank p (spec 2.4).

    Plackett-Luce: the best is drawn in proportion to e^r, then the best of the rest, and so on.
    Restricted to two items it is Bradley-Terry, but the pairs of one ranking are dependent, so
    their product is not its likelihood.

    A mask allows rankings of different lengths in one batch. A value lists item numbers, best
    first, shape (..., R). Its first entries name the present items; the remaining ones, one per
    absent item, are ignored.

    >>> ranking = Ranking(torch.tensor([2.0, 1.0, 0.0]))
    >>> ranking.log_prob(torch.tensor([0, 1, 2])).exp()  # best first
    tensor(0.4863)

    Args:
        rewards: Rewards of the items, batch shape and (R,). Those of absent items are ignored.
        mask: True where an item is present, broadcastable to ``rewards``; all when omitted.
    """

    arg_constraints = {"rewards": constraints.independent(constraints.real, 1)}

    def __init__(
        self,
        rewards: Tensor,
        mask: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if mask is None:
            mask = torch.ones_like(rewards, dtype=torch.bool)
        rewards, self.mask = torch.broadcast_tensors(rewards, mask)
        # Do not multiply by the mask: an absent reward may be NaN.
        self.rewards = torch.where(self.mask, rewards, torch.zeros_like(rewards))
        super().__init__(rewards.shape[:-1], rewards.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "Ranking":
        """Return the distribution with its parameters expanded to ``batch_shape``."""
        shape = torch.Size(batch_shape) + self.event_shape
        return Ranking(self.rewards.expand(shape), self.mask.expand(shape), False)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        """Rankings of the present items."""
        return _Rankings(self.mask)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw rankings by sorting reward plus Gumbel noise; absent items come last."""
        with torch.no_grad():
            rewards = self.rewards.expand(self._extended_shape(sample_shape))
            noisy = rewards - torch.empty_like(rewards).exponential_().log()
            noisy = torch.where(self.mask, noisy, -torch.inf)
            return noisy.argsort(dim=-1, descending=True, stable=True)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value), batch shape; 0 for a ranking of one item or none."""
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(self.rewards.shape, value.shape)
        ranked = _leading(self.mask).expand(shape)
        order = torch.where(ranked, value.expand(shape), 0)
        placed = self.rewards.expand(shape).gather(-1, order)
        # Use a finite floor: with -inf, the gradient of an empty sum would be NaN.
        floor = torch.finfo(placed.dtype).min
        remaining = torch.where(ranked, placed, floor).flip(-1).logcumsumexp(-1).flip(-1)
        return torch.where(ranked, placed - remaining, 0.0).sum(-1)


def _leading(mask: Tensor) -> Tensor:
    """Return a mask with the same number of True per row, moved to the front."""
    places = torch.arange(mask.shape[-1], device=mask.device)
    return places < mask.sum(-1, keepdim=True)

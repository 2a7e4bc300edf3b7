"""Rebuild rankings from the pairs they were split into."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rankings:
    """Responses of one prompt in the order of preference, M rankings of at most n items.

    Args:
        items: Rows of the responses of each ranking, shape (M, n); 0 where the mask is False.
        mask: True where there is an item, shape (M, n).
        order: Columns of ``items`` from best to worst, shape (M, n); entries beyond the number
            of items are arbitrary.
        weight: Power on the likelihood of each ranking, shape (M,).
        number: Number of each ranking in ``pair_ranking``, ascending, shape (M,).
    """

    items: Tensor
    mask: Tensor
    order: Tensor
    weight: Tensor
    number: Tensor

    @property
    def num_rankings(self) -> int:
        """Number of rankings M."""
        return self.items.shape[0]


def from_pairs(
    ranking: Tensor, pairs: tuple[Tensor, Tensor], preference: Tensor, weight: Tensor
) -> Rankings:
    """Return the rankings that the pairs come from.

    A ranking of n items has all n (n - 1) / 2 pairs. The rank of an item follows from the number
    of pairs it wins. Each pair has 2 / n of the ranking's weight, in either order.

    Args:
        ranking: Number of the ranking that each pair is part of, shape (N,).
        pairs: First and second response of each pair, (N,) each.
        preference: 1 where the first is ranked higher, else 0, shape (N,).
        weight: Weight of each pair, shape (N,).

    Raises:
        ValueError: If pairs are missing, or contradict each other.
    """
    number, row_of_pair = torch.unique(ranking, return_inverse=True)
    responses = torch.cat(pairs)
    num_responses = int(responses.max()) + 1
    keys = row_of_pair.repeat(2) * num_responses + responses
    keys, index = torch.unique(keys, return_inverse=True)
    first, second = index.chunk(2)
    row, response = keys // num_responses, keys % num_responses
    size = torch.bincount(row, minlength=len(number))
    wins = torch.bincount(torch.where(preference > 0.5, first, second), minlength=len(keys))
    column = torch.arange(len(keys), device=keys.device) - (size.cumsum(0) - size)[row]
    place = size[row] - 1 - wins
    items = torch.zeros(len(number), int(size.max()), dtype=torch.long, device=keys.device)
    order, mask = torch.zeros_like(items), torch.zeros_like(items, dtype=torch.bool)
    items[row, column], mask[row, column] = response, True
    # With all pairs present, distinct numbers of wins mean the pairs are those of one order.
    order[row, place.clamp(min=0)] = column
    back = order[row, place.clamp(min=0)] == column
    complete = torch.bincount(row_of_pair) * 2 == size * (size - 1)
    both = torch.minimum(first, second) * len(keys) + torch.maximum(first, second)
    if not bool(complete.all() & back.all()) or len(torch.unique(both)) < len(both):
        raise ValueError(
            "the pairs of a ranking are not those of one order of its items; keep or drop all "
            "pairs of an item together."
        )
    total = weight.new_zeros(len(number)).index_add(0, row_of_pair, weight)
    return Rankings(items, mask, order, total / (size - 1), number)

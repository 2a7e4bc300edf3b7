"""Batches of token sequences that waste little on padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vrm_pyro.backbone.layout import TokenSequence

# Texts of this share of the longest one are padded with it.
_FULL: Final = 0.9
# A batch with this part of the budget is large enough.
_ENOUGH: Final = 4


@dataclass(frozen=True)
class TokenBatch:
    """Padded token ids of several sequences.

    Args:
        input_ids: Shape (rows, tokens).
        attention_mask: 1 for real tokens, shape (rows, tokens).
        type_ids: Segment ids, shape (rows, tokens).
        response_mask: 1 for tokens of the response text, shape (rows, tokens).
    """

    input_ids: Tensor
    attention_mask: Tensor
    type_ids: Tensor
    response_mask: Tensor


def token_batches(
    lengths: Sequence[int], budget: int, even: bool = False
) -> list[NDArray[np.int64]]:
    """Group sequences of similar length, longest first.

    Longest first, so that a batch that does not fit in memory fails at once, not after hours,
    and a progress bar overestimates the time left. The grouping depends on the arguments only:
    a resumed run repeats it exactly.

    Args:
        lengths: Number of tokens of each sequence.
        budget: Most tokens in a batch, padding included; a longer sequence gets its own batch.
        even: Whether a batch that is large enough ends where texts get shorter: padding of a few
            texts of many lengths costs more than one batch more.

    Returns:
        Index arrays that together hold each sequence once.

    >>> [rows.tolist() for rows in token_batches([38, 90, 40, 2], budget=100)]
    [[1], [2, 0], [3]]
    """
    tokens = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-tokens, kind="stable")
    batches, start = [], 0
    while start < len(order):
        longest = max(1, int(tokens[order[start]]))
        rows = max(1, budget // longest)
        shorter = np.flatnonzero(tokens[order[start : start + rows]] < _FULL * longest)
        if even and len(shorter):
            rows = max(int(shorter[0]), -(-budget // (_ENOUGH * longest)))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def pad_batch(sequences: Sequence[TokenSequence], pad_id: int) -> TokenBatch:
    """Return sequences padded on the right to the longest of them."""
    shape = (len(sequences), max(len(s) for s in sequences))
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    type_ids, mask, response = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    for row, sequence in enumerate(sequences):
        length = len(sequence)
        input_ids[row, :length] = sequence.input_ids
        type_ids[row, :length] = sequence.type_ids
        mask[row, :length] = 1
        response[row, sequence.boundary : sequence.response_end] = 1
    return TokenBatch(*(torch.from_numpy(a) for a in (input_ids, mask, type_ids, response)))

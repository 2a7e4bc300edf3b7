"""Pack a prompt and its responses into one row, so that the prompt is computed once.

A row is a prefix (the prompt) and any number of tails (its responses). A tail attends to the
prefix and to itself. Its positions start where the prefix ends, so the state of its last token
equals that of the sequence prefix + tail. With causal attention this is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vrm_pyro.backbone.layout import TokenSequence
from vrm_pyro.backbone.pooling import LAST_MEAN

Ints = NDArray[np.int64]

PADDING = -1
"""Segment number of padding tokens."""


@dataclass(frozen=True)
class Row:
    """One packed sequence of tokens, and the states that are pooled from it.

    Args:
        input_ids: Token ids, shape (tokens,).
        type_ids: Segment ids of models that have them, shape (tokens,).
        positions: Position of each token in its own sequence, shape (tokens,).
        segments: 0 for the prefix, j for the j-th tail, shape (tokens,).
        states: Index of each state that this row gives, shape (states,).
        pooled: For each state, the tokens it averages, in order: one token for pooling ``last``.
    """

    input_ids: Ints
    type_ids: Ints
    positions: Ints
    segments: Ints
    states: tuple[int, ...]
    pooled: tuple[Ints, ...]

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class RowBatch:
    """Rows padded to one length.

    Args:
        input_ids: Shape (rows, tokens).
        type_ids: Shape (rows, tokens).
        positions: Shape (rows, tokens).
        segments: Shape (rows, tokens), :data:`PADDING` for padding.
        pool_token: Index of each pooled token into the flattened rows, shape (pooled,).
        pool_state: Index of its state within the batch, shape (pooled,).
        states: Index of each state of the batch over all rows, shape (states,).
    """

    input_ids: Tensor
    type_ids: Tensor
    positions: Tensor
    segments: Tensor
    pool_token: Tensor
    pool_state: Tensor
    states: Tensor

    @property
    def attention_mask(self) -> Tensor:
        """1 for real tokens, shape (rows, tokens)."""
        return (self.segments != PADDING).long()

    @property
    def shares(self) -> bool:
        """Whether any row holds several tails, which must not attend to each other."""
        return bool((self.segments > 1).any())

    def block_mask(self) -> Tensor:
        """Return the attention mask, bool, shape (rows, 1, query, key).

        A token attends to the prefix and its own tail, up to itself. Padding attends to
        padding: a softmax over no keys would be NaN.
        """
        size = self.segments.shape[1]
        earlier = torch.ones(size, size, dtype=torch.bool, device=self.segments.device).tril()
        query, key = self.segments.unsqueeze(-1), self.segments.unsqueeze(-2)
        return (earlier & ((key == query) | ((key == 0) & (query > 0)))).unsqueeze(1)

    def pool(self, hidden: Tensor, pooling: str) -> Tensor:
        """Pool token states, (rows, tokens, hidden), into states, (states, hidden).

        Args:
            hidden: States of all tokens.
            pooling: That of :func:`make_rows`. For ``last+mean`` the last state of each sequence
                stands before the mean: (states, 2 hidden).
        """
        flat = hidden.flatten(0, 1)[self.pool_token]
        if len(self.pool_token) == len(self.states):  # one token each, in order
            return torch.cat([flat, flat], dim=-1) if pooling == LAST_MEAN else flat
        total = flat.new_zeros(len(self.states), flat.shape[-1])
        count = torch.bincount(self.pool_state, minlength=len(self.states)).clamp(min=1)
        mean = total.index_add(0, self.pool_state, flat) / count.unsqueeze(-1)
        if pooling != LAST_MEAN:
            return mean
        return torch.cat([flat[count.cumsum(0) - 1], mean], dim=-1)

    def to(self, device: torch.device | str) -> "RowBatch":
        """Return a copy on a device."""
        return RowBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def make_rows(
    sequences: Sequence[TokenSequence],
    prefix_of: Sequence[int] | Ints,
    pooling: str,
    share: bool,
    max_tokens: int,
) -> list[Row]:
    """Pack each sequence into one row; state i belongs to sequence i.

    Args:
        sequences: Prompts, and responses after their prompts.
        prefix_of: For each sequence, the index of its prompt. Sequences of one prompt share a row
            if their tokens before the boundary are equal. (An overlong prompt is cut differently
            for responses of different length.)
        pooling: One of :data:`vrm_pyro.backbone.pooling.POOLINGS`.
        share: Whether the backbone can compute tails of a prefix in one row.
        max_tokens: Most tokens in a row with several tails.

    >>> ids = np.array([7, 8, 1, 2], dtype=np.int32)  # a prompt of two tokens, then a response
    >>> pair = TokenSequence(ids, 0 * ids, boundary=2, response_end=4)
    >>> prompt = TokenSequence(ids[:2], 0 * ids[:2], boundary=2, response_end=2)
    >>> (row,) = make_rows([prompt, pair, pair], [0, 0, 0], "last", True, max_tokens=100)
    >>> row.input_ids.tolist(), row.segments.tolist()
    ([7, 8, 1, 2, 1, 2], [0, 0, 1, 1, 2, 2])
    >>> [tokens.tolist() for tokens in row.pooled]
    [[1], [3], [5]]
    """
    if not share:
        return [_row([(i, s)], len(s), pooling) for i, s in enumerate(sequences)]
    groups: dict[tuple[int, bytes], list[int]] = {}
    for i, sequence in enumerate(sequences):
        start = sequence.boundary
        key = sequence.input_ids[:start].tobytes() + sequence.type_ids[:start].tobytes()
        groups.setdefault((int(prefix_of[i]), key), []).append(i)
    rows = []
    for members in groups.values():
        boundary = sequences[members[0]].boundary
        part: list[tuple[int, TokenSequence]] = []
        length = boundary
        for i in members:
            tail = len(sequences[i]) - boundary
            if part and length + tail > max_tokens:
                rows.append(_row(part, boundary, pooling))
                part, length = [], boundary
            part.append((i, sequences[i]))
            length += tail
        rows.append(_row(part, boundary, pooling))
    return rows


def _row(members: Sequence[tuple[int, TokenSequence]], boundary: int, pooling: str) -> Row:
    """Make the row of one prefix and the tails of sequences that begin with it."""
    first = members[0][1]
    ids, types = [first.input_ids[:boundary]], [first.type_ids[:boundary]]
    positions, segments = [np.arange(boundary)], [np.zeros(boundary, dtype=np.int64)]
    pooled, start, prefix = [], boundary, np.arange(boundary)
    tails = 0
    for _, sequence in members:
        size = len(sequence) - boundary
        tails += size > 0
        ids.append(sequence.input_ids[boundary:])
        types.append(sequence.type_ids[boundary:])
        positions.append(np.arange(boundary, boundary + size))
        segments.append(np.full(size, tails))
        own = np.arange(start, start + size)
        pooled.append(_pooled(sequence, np.concatenate([prefix, own]), pooling))
        start += size
    return Row(
        np.concatenate(ids).astype(np.int64),
        np.concatenate(types).astype(np.int64),
        np.concatenate(positions),
        np.concatenate(segments),
        states=tuple(i for i, _ in members),
        pooled=tuple(pooled),
    )


def _pooled(sequence: TokenSequence, tokens: Ints, pooling: str) -> Ints:
    """Return which of a sequence's ``tokens`` its state averages."""
    if pooling == "last":
        return tokens[-1:]
    if pooling == "response_mean" and sequence.response_end > sequence.boundary:
        return tokens[sequence.boundary : sequence.response_end]
    return tokens


def pad_rows(rows: Sequence[Row], pad_id: int) -> RowBatch:
    """Return rows padded on the right to the longest of them."""
    shape = (len(rows), max(len(row) for row in rows))
    ids = np.full(shape, pad_id, dtype=np.int64)
    types, positions = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    segments = np.full(shape, PADDING, dtype=np.int64)
    tokens: list[Ints] = []
    owners: list[Ints] = []
    states: list[int] = []
    for r, row in enumerate(rows):
        size = len(row)
        ids[r, :size], types[r, :size] = row.input_ids, row.type_ids
        positions[r, :size], segments[r, :size] = row.positions, row.segments
        for state, pooled in zip(row.states, row.pooled, strict=True):
            tokens.append(r * shape[1] + pooled)
            owners.append(np.full(len(pooled), len(states)))
            states.append(state)
    arrays = (ids, types, positions, segments, np.concatenate(tokens), np.concatenate(owners))
    return RowBatch(*(torch.from_numpy(a) for a in (*arrays, np.asarray(states, dtype=np.int64))))

"""The rows of a table in the order they were read, equal ones included."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOTHING = -1


@dataclass(frozen=True)
class RowOrder:
    """Items of the rows in their order: one for each comparison and each single response.

    A table stores equal responses once. An item says which row asked for which of them, so that
    a score file has lines for every row.

    >>> from vrm_pyro.data.rows import load_table
    >>> rows = [{"prompt": "2 + 2?", "response": answer} for answer in ("4", "5", "4")]
    >>> order = load_table(rows).row_order
    >>> order.response.tolist(), order.names
    ([0, 1, 0], ['response-0', 'response-1', 'response-2'])

    Args:
        row: Position in the input of the row of each item, from 0, rows left out counted; (I,).
        pair: Index of its pair, -1 for a single response; (I,).
        response: Index of its response, -1 for a comparison; (I,).
        index: Place of that response in its row, 0 unless the row has several; (I,).
        ids: ``id`` of its row, None where absent; length I.
    """

    row: NDArray[np.int64]
    pair: NDArray[np.int64]
    response: NDArray[np.int64]
    index: NDArray[np.int64]
    ids: list[str | None]

    @classmethod
    def of(
        cls, items: Sequence[tuple[int, int, int, int]], ids: Sequence[str | None]
    ) -> "RowOrder":
        """Return the order of items given as row, pair, response and its place in the row."""
        row, pair, response, index = np.array(items, dtype=np.int64).reshape(-1, 4).T
        return cls(row, pair, response, index, list(ids))

    @classmethod
    def pairs_first(
        cls, sides: NDArray[np.int64], pair_id: list[str | None], response_id: list[str | None]
    ) -> "RowOrder":
        """Return the order of a table that does not know its rows: pairs, then responses.

        Responses of pairs have no row of their own, unless they have an id.

        Args:
            sides: Responses in a pair.
            pair_id: Id of each pair.
            response_id: Id of each response.
        """
        named = np.array([name is not None for name in response_id], dtype=bool)
        paired = np.zeros(len(response_id), dtype=bool)
        paired[sides] = True
        singles = np.flatnonzero(~paired | named).tolist()
        items = [(n, n, NOTHING, 0) for n in range(len(pair_id))]
        items += [(j, NOTHING, j, 0) for j in singles]
        return cls.of(items, [*pair_id, *(response_id[j] for j in singles)])

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.row)

    @property
    def names(self) -> list[str]:
        """The id of each item's row; ``pair-7`` or ``response-7`` for row 7 without one."""
        kinds = np.where(self.pair >= 0, "pair", "response").tolist()
        each = zip(self.ids, kinds, self.row.tolist(), strict=True)
        return [f"{kind}-{row}" if name is None else name for name, kind, row in each]

    def kept(self, pair_place: NDArray[np.int64], response_place: NDArray[np.int64]) -> "RowOrder":
        """Return the items that are left of a smaller table.

        Args:
            pair_place: New index of each pair, -1 where it is gone, (N,).
            response_place: New index of each response, likewise, (R,).
        """
        # An index of -1 reads the last entry: nothing stays nothing.
        pair = np.append(pair_place, NOTHING)[self.pair]
        response = np.append(response_place, NOTHING)[self.response]
        kept = RowOrder(self.row, pair, response, self.index, self.ids)
        return kept.items(np.flatnonzero((pair >= 0) | (response >= 0)))

    def items(self, which: NDArray[np.int64]) -> "RowOrder":
        """Return some items, given by their numbers."""
        return RowOrder(
            self.row[which],
            self.pair[which],
            self.response[which],
            self.index[which],
            [self.ids[i] for i in which],
        )

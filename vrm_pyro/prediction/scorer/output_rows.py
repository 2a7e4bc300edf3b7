"""The rows of a score file before they are scored: what a part of the file needs of a table."""

import itertools
from dataclasses import replace

import numpy as np

from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.rows.table import places
from vrm_pyro.features.shards import shard_ranges


class OutputRows:
    """Comparisons and single responses of a score file, in the order of the rows.

    Args:
        table: The rows that are scored.
        by_prompt: Put the rows of a prompt together, where its first one is.
    """

    def __init__(self, table: PreferenceTable, by_prompt: bool = False) -> None:
        self.table, self._order, self.by_prompt = table, table.row_order, by_prompt
        self._prompt = self._prompts()
        if by_prompt:
            _, first, group = np.unique(self._prompt, return_index=True, return_inverse=True)
            together = np.argsort(first[group], kind="stable")
            self._order, self._prompt = self._order.items(together), self._prompt[together]

    def _prompts(self) -> np.ndarray:
        """Return the prompt of each comparison and single response."""
        order, table = self._order, self.table
        response = order.response.copy()
        paired = order.pair >= 0
        response[paired] = table.pair_first[order.pair[paired]]
        return table.response_prompt[response]

    def shards(self, size: int) -> list[tuple[int, int]]:
        """Return the half-open range of each shard of ``size`` rows; by prompt, of whole prompts.

        >>> from vrm_pyro.data.rows import load_table
        >>> asked = ("a?", "b?", "a?", "b?", "a?")
        >>> rows = [{"prompt": p, "response": str(i)} for i, p in enumerate(asked)]
        >>> OutputRows(load_table(rows)).shards(2)
        [(0, 2), (2, 4), (4, 5)]
        >>> OutputRows(load_table(rows), by_prompt=True).shards(2)
        [(0, 3), (3, 5)]
        """
        if not self.by_prompt:
            return shard_ranges(len(self), size)
        starts = np.flatnonzero(np.diff(self._prompt, prepend=-1))
        cuts = [0]
        for start in [*starts[1:].tolist(), len(self)]:
            if start - cuts[-1] >= size or start == len(self) > cuts[-1]:
                cuts.append(start)
        return list(itertools.pairwise(cuts))

    def __len__(self) -> int:
        """Return the number of comparisons and single responses."""
        return len(self._order)

    def num_responses(self, first: int, end: int) -> int:
        """Return how many different responses the rows from ``first`` to before ``end`` hold."""
        return len(self._indices(first, end)[1])

    def select(self, first: int, end: int) -> PreferenceTable:
        """Return a table of some rows whose lines are these rows' lines of the whole.

        Each prompt and each response stands in it once.
        """
        table, order = self.table, self._order
        pairs, responses = self._indices(first, end)
        prompts = np.unique(table.response_prompt[responses])
        here = order.items(np.arange(first, min(end, len(order))))
        return replace(
            table,
            order=here.kept(
                places(table.num_pairs, pairs), places(table.num_responses, responses)
            ),
            prompts=[table.prompts[i] for i in prompts],
            responses=[table.responses[j] for j in responses],
            response_prompt=np.searchsorted(prompts, table.response_prompt[responses]),
            pair_first=np.searchsorted(responses, table.pair_first[pairs]),
            pair_second=np.searchsorted(responses, table.pair_second[pairs]),
            preference=table.preference[pairs],
            pair_weight=table.pair_weight[pairs],
            pair_margin=table.pair_margin[pairs],
            # A ranking may end up in two parts, and labels are not read here.
            pair_ranking=np.full(len(pairs), -1),
            ratings=table.ratings[responses],
            pair_id=[table.pair_id[n] for n in pairs],
            pair_subset=[table.pair_subset[n] for n in pairs],
            pair_source=[table.pair_source[n] for n in pairs],
            response_id=[table.response_id[j] for j in responses],
            response_subset=[table.response_subset[j] for j in responses],
            response_place=[table.response_place[j] for j in responses if table.response_place],
        )

    def _indices(self, first: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Return pairs and all responses of some rows."""
        pairs = self._order.pair[first:end]
        pairs = pairs[pairs >= 0]
        singles = self._order.response[first:end]
        sides = (self.table.pair_first[pairs], self.table.pair_second[pairs])
        return pairs, np.unique(np.concatenate([*sides, singles[singles >= 0]]))

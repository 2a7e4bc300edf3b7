"""The rows of a score file before they are scored: what a part of the file needs of a table."""

from dataclasses import replace

import numpy as np

from vrm_pyro.data.rows import PreferenceTable


class OutputRows:
    """Rows of a score file in its order: comparisons, then single responses.

    Args:
        table: The rows that are scored.
    """

    def __init__(self, table: PreferenceTable) -> None:
        self.table = table
        paired = np.zeros(table.num_responses, dtype=bool)
        paired[table.pair_first] = paired[table.pair_second] = True
        named = np.array([name is not None for name in table.response_id], dtype=bool)
        self._singles = np.flatnonzero(~paired | named)

    def __len__(self) -> int:
        """Return the number of comparisons and single responses."""
        return self.table.num_pairs + len(self._singles)

    def num_responses(self, first: int, end: int) -> int:
        """Return how many different responses the rows from ``first`` to before ``end`` hold."""
        return len(self._indices(first, end)[2])

    def select(self, first: int, end: int) -> PreferenceTable:
        """Return a table of some rows whose lines are these rows' lines of the whole.

        Each prompt and each response stands in it once. Rows without an id carry the name that
        their place in the whole gives them.
        """
        table = self.table
        pairs, singles, responses = self._indices(first, end)
        prompts = np.unique(table.response_prompt[responses])
        alone = set(singles.tolist())
        return replace(
            table,
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
            pair_id=[_name(table.pair_id[n], "pair", n) for n in pairs.tolist()],
            pair_subset=[table.pair_subset[n] for n in pairs],
            pair_source=[table.pair_source[n] for n in pairs],
            response_id=[
                _name(table.response_id[j], "response", j) if j in alone else None
                for j in responses.tolist()
            ],
            response_subset=[table.response_subset[j] for j in responses],
        )

    def _indices(self, first: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return pairs, single responses, and all responses of some rows."""
        count = self.table.num_pairs
        pairs = np.arange(min(first, count), min(end, count))
        singles = self._singles[max(first - count, 0) : max(end - count, 0)]
        sides = (self.table.pair_first[pairs], self.table.pair_second[pairs], singles)
        return pairs, singles, np.unique(np.concatenate(sides))


def _name(given: str | None, kind: str, index: int) -> str:
    return f"{kind}-{index}" if given is None else given

"""Table of comparisons and ratings, with shared prompts and responses stored once."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.rows.conversation import Message
from vrm_pyro.data.rows.counts import RowReport, add_counts
from vrm_pyro.data.rows.order import NOTHING, RowOrder
from vrm_pyro.data.rows.ranking_pairs import NO_RANKING, complete_drop, shrink
from vrm_pyro.data.source import COLUMNS, OPTIONAL_COLUMNS
from vrm_pyro.data.turns import answer_mark
from vrm_pyro.errors import InputError, NoUsableRow


@dataclass(frozen=True, repr=False)
class PreferenceTable:
    """Comparisons and ratings as prompts, responses and pairs, each on a flat index (spec 2.1).

    >>> from vrm_pyro.data.rows import load_table
    >>> rows = [{"prompt": "2 + 2?", "responses": ["4", "five", "5"], "ranks": [1, 3, 2]}]
    >>> table = load_table(rows)
    >>> list(zip(table.pair_first.tolist(), table.pair_second.tolist()))
    [(0, 1), (0, 2), (1, 2)]
    >>> table.responses, table.response_prompt.tolist()
    (['4', '5', 'five'], [0, 0, 0])

    Args:
        prompts: Unique prompts as chat messages, length P.
        responses: Texts of the responses, unique within a prompt, length R.
        response_prompt: Index of the prompt of each response, shape (R,).
        pair_first: Index of the response called "chosen", shape (N,).
        pair_second: Index of the other response, of the same prompt, shape (N,).
        preference: Probability in [0, 1] that the first is preferred, shape (N,).
        pair_weight: Power on the likelihood of the pair, >= 0, shape (N,).
        ratings: Ratings in raw units, NaN where missing, shape (R, K); K = 0 when there are none.
        objectives: Names of the rated objectives, length K.
        pair_id: ``id`` of the row each pair comes from, None where absent.
        pair_subset: ``subset`` of each pair.
        pair_source: ``source`` of each pair.
        response_id: ``id`` of the single-response row, None for responses in pairs only.
        response_subset: ``subset`` of the first row that holds the response.
        report: Counts of what was read, kept and left out.
        pair_margin: Known threshold of each pair, NaN where absent, shape (N,); all NaN when
            omitted.
        pair_ranking: Number of the ranking that each pair comes from, -1 for none, shape (N,);
            all -1 when omitted. A ranking of n >= 3 responses is stored as all its n (n - 1) / 2
            pairs, the better response first, each with 2 / n of its weight.
        response_place: Location of the first row that holds each response, such as
            ``rows.jsonl:214``; empty where it is not known.
        order: The rows in the order they were read; None where it is not known.
    """

    prompts: list[list[Message]]
    responses: list[str]
    response_prompt: NDArray[np.int64]
    pair_first: NDArray[np.int64]
    pair_second: NDArray[np.int64]
    preference: NDArray[np.float64]
    pair_weight: NDArray[np.float64]
    ratings: NDArray[np.float64]
    objectives: tuple[str, ...]
    pair_id: list[str | None]
    pair_subset: list[str | None]
    pair_source: list[str | None]
    response_id: list[str | None]
    response_subset: list[str | None]
    report: RowReport
    pair_margin: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    pair_ranking: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    response_place: list[str | None] = field(default_factory=list)
    order: RowOrder | None = None

    def __post_init__(self) -> None:
        for name, absent in OPTIONAL_COLUMNS.items():
            if len(getattr(self, name)) == 0:
                column = np.full(self.num_pairs, absent, COLUMNS[name].dtype)
                object.__setattr__(self, name, column)
        assert self.response_prompt.shape == (self.num_responses,)
        assert self.ratings.shape == (self.num_responses, len(self.objectives))
        assert len(self.pair_id) == self.num_pairs
        assert all(len(getattr(self, name)) == self.num_pairs for name in COLUMNS)
        second_prompt = self.response_prompt[self.pair_second]
        assert (self.pair_prompt == second_prompt).all(), "a pair spans two prompts"

    def __repr__(self) -> str:
        rated = f", rated on {', '.join(self.objectives)}" if self.objectives else ""
        return (
            f"PreferenceTable({self.num_pairs:,} pairs, {self.num_prompts:,} prompts, "
            f"{self.num_responses:,} responses{rated})"
        )

    @property
    def num_prompts(self) -> int:
        """Number of prompts P."""
        return len(self.prompts)

    @property
    def num_responses(self) -> int:
        """Number of responses R."""
        return len(self.responses)

    @property
    def num_pairs(self) -> int:
        """Number of pairs N."""
        return len(self.pair_first)

    @property
    def pair_prompt(self) -> NDArray[np.int64]:
        """Index of the prompt of each pair, shape (N,)."""
        return self.response_prompt[self.pair_first]

    @property
    def prompt_subset(self) -> list[str | None]:
        """Subset of each prompt: that of its first pair that has one, else of its responses."""
        return first_subsets(
            self.num_prompts,
            (self.pair_prompt, self.pair_subset),
            (self.response_prompt, self.response_subset),
        )

    @property
    def row_order(self) -> RowOrder:
        """The rows in the order they were read; pairs first where it is not known."""
        if self.order is not None:
            return self.order
        sides = np.concatenate([self.pair_first, self.pair_second])
        return RowOrder.pairs_first(sides, self.pair_id, self.response_id)

    @property
    def pair_names(self) -> list[str]:
        """Id of the row of each pair, ``pair-7`` for row 7 without one."""
        order = self.row_order
        named = dict(zip(order.pair.tolist(), order.names, strict=True))
        return [named[n] for n in range(self.num_pairs)]

    @property
    def ranking_numbers(self) -> list[int]:
        """Numbers of the rankings, ascending."""
        return np.unique(self.pair_ranking[self.pair_ranking != NO_RANKING]).tolist()

    @property
    def has_ratings(self) -> bool:
        """Whether any rating is observed."""
        return bool((~np.isnan(self.ratings)).any())

    def content_hash(self) -> str:
        """Return a SHA-256 of texts, structure, labels and ratings, in the order of the table.

        Tables with equal hashes can share stored features: their arrays are equal row by row, so
        the order of rows counts. Ids, subsets, sources and the report are not hashed: they
        change no feature and no label.
        """
        digest = hashlib.sha256(b"vrm_pyro rows 1")
        texts = (self.prompts, self.responses, list(self.objectives))
        for part in texts:
            encoded = json.dumps(part, ensure_ascii=False, sort_keys=True).encode("utf-8")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        for indices in (self.response_prompt, self.pair_first, self.pair_second):
            digest.update(len(indices).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(indices, dtype="<i8").tobytes())
        for values in (self.preference, self.pair_weight, self.ratings):
            # one bit pattern for every NaN, one for both zeros
            plain = np.where(np.isnan(values), np.nan, values) + 0.0
            digest.update(np.ascontiguousarray(plain, dtype="<f8").tobytes())
        if not np.isnan(self.pair_margin).all():  # else the hash of versions without margins
            plain = np.where(np.isnan(self.pair_margin), np.nan, self.pair_margin) + 0.0
            digest.update(b"margin" + np.ascontiguousarray(plain, dtype="<f8").tobytes())
        digest.update(answer_mark(self.responses))
        if self.ranking_numbers:
            digest.update(b"ranking" + np.ascontiguousarray(self.pair_ranking, "<i8").tobytes())
        return digest.hexdigest()

    def select_prompts(self, indices: NDArray[Any] | Sequence[int]) -> "PreferenceTable":
        """Return the table restricted to some prompts, with all their responses and pairs.

        Args:
            indices: Prompt indices without repeats, or a mask of shape (P,). Prompts take this
                order; responses and pairs keep their order.

        Raises:
            ValueError: If an index repeats.
        """
        chosen = np.asarray(indices)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        if len(np.unique(chosen)) != len(chosen):
            raise ValueError("select_prompts: a prompt index repeats; give each prompt once.")
        new_prompt = np.full(self.num_prompts, -1, dtype=np.int64)
        new_prompt[chosen] = np.arange(len(chosen))
        responses = np.flatnonzero(new_prompt[self.response_prompt] >= 0)
        new_response = np.full(self.num_responses, -1, dtype=np.int64)
        new_response[responses] = np.arange(len(responses))
        kept = self._with_pairs(new_prompt[self.pair_prompt] >= 0)
        return replace(
            kept,
            order=kept._order_of(responses),
            prompts=[self.prompts[index] for index in chosen],
            responses=[self.responses[index] for index in responses],
            response_prompt=new_prompt[self.response_prompt[responses]],
            pair_first=new_response[kept.pair_first],
            pair_second=new_response[kept.pair_second],
            ratings=self.ratings[responses],
            response_id=[self.response_id[index] for index in responses],
            response_subset=[self.response_subset[index] for index in responses],
            response_place=[self.response_place[i] for i in responses if self.response_place],
        )

    def drop_responses(self, mask: NDArray[np.bool_], reason: str) -> "PreferenceTable":
        """Return the table without some responses, their pairs, and prompts that have none left.

        Rows that are left out (pairs, and responses in no pair) are counted as invalid.

        Args:
            mask: True for responses to drop, shape (R,).
            reason: Name of the count.

        Raises:
            InputError: If no response is left.
        """
        lost = self.complete_drop(mask[self.pair_first] | mask[self.pair_second])
        single = mask.copy()
        single[self.pair_first] = single[self.pair_second] = False
        invalid = add_counts(self.report.invalid, {reason: int(lost.sum() + single.sum())})
        report = replace(self.report, invalid=invalid)
        if mask.all():
            raise NoUsableRow(f"no usable row is left: {report.summary()}.")
        number, weight = shrink(self.pair_ranking, self.pair_weight, ~lost)
        rest = np.flatnonzero(~mask)
        place = np.cumsum(~mask) - 1
        kept = self._with_pairs(~lost)
        kept = replace(
            kept,
            order=kept._order_of(rest),
            responses=[self.responses[i] for i in rest],
            response_prompt=self.response_prompt[rest],
            pair_first=place[kept.pair_first],
            pair_second=place[kept.pair_second],
            pair_ranking=number,
            pair_weight=weight,
            ratings=self.ratings[rest],
            response_id=[self.response_id[i] for i in rest],
            response_subset=[self.response_subset[i] for i in rest],
            response_place=[self.response_place[i] for i in rest if self.response_place],
            report=report,
        )
        return kept.select_prompts(np.unique(kept.response_prompt))

    def drop_pairs(self, mask: NDArray[np.bool_], reason: str) -> "PreferenceTable":
        """Return the table without some pairs, and count them in the report.

        All prompts and responses are kept, so indices into their states stay valid. A ranking
        that loses a pair loses the lower item of that pair, see :meth:`complete_drop`.

        Args:
            mask: True for pairs to drop, shape (N,).
            reason: Name of the count, such as "identical after truncation".

        Raises:
            InputError: If neither a pair nor a rating is left.
        """
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != (self.num_pairs,):
            raise ValueError(f"drop_pairs: mask has shape {mask.shape}, not ({self.num_pairs},).")
        if not mask.any():
            return self
        mask = self.complete_drop(mask)
        count = int(mask.sum())
        report = self.report.with_dropped(reason, count)
        if count == self.num_pairs and not self.has_ratings:
            raise InputError(f"nothing left to learn from: {report.summary()}.")
        number, weight = shrink(self.pair_ranking, self.pair_weight, ~mask)
        kept = self._with_pairs(~mask)
        return replace(kept, pair_ranking=number, pair_weight=weight, report=report)

    def complete_drop(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Extend a mask of pairs to drop so that rankings stay complete, shape (N,).

        If a pair of a ranking is dropped, its lower response leaves the ranking.
        """
        return complete_drop(self.pair_ranking, self.pair_first, self.pair_second, mask)

    def with_report(self, counts: Mapping[str, int]) -> "PreferenceTable":
        """Return the same table with more named counts in its report."""
        return replace(self, report=self.report.with_extra(counts))

    def _with_pairs(self, keep: NDArray[np.bool_]) -> "PreferenceTable":
        pairs = np.flatnonzero(keep)
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in COLUMNS:
            values[name] = values[name][pairs]
        for name in ("pair_id", "pair_subset", "pair_source"):
            values[name] = [values[name][index] for index in pairs]
        if self.order is not None:
            everything = np.arange(self.num_responses)
            values["order"] = self.order.kept(places(self.num_pairs, pairs), everything)
        return PreferenceTable(**values)

    def _order_of(self, responses: NDArray[np.int64]) -> RowOrder | None:
        """Return the order once only some responses are left, and all pairs."""
        if self.order is None:
            return None
        return self.order.kept(np.arange(self.num_pairs), places(self.num_responses, responses))


def places(count: int, kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the new index of each of ``count`` items, -1 where it is not among those kept.

    >>> places(4, np.array([1, 3])).tolist()
    [-1, 0, -1, 1]
    """
    found = np.full(count, NOTHING)
    found[kept] = np.arange(len(kept))
    return found


def first_subsets(
    num_prompts: int, *rows: tuple[NDArray[np.int64], Sequence[str | None]]
) -> list[str | None]:
    """Return the first subset named for each prompt, None without one.

    Args:
        num_prompts: Number of prompts.
        *rows: Prompt and subset of each row; an empty name counts as None.
    """
    found: list[str | None] = [None] * num_prompts
    for owners, names in rows:
        for prompt, name in zip(owners.tolist(), names, strict=True):
            found[prompt] = found[prompt] or name or None
    return found

"""Build a table from rows, merging equal prompts and responses."""

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from vrm_pyro.data.rows.conversation import Message, extras
from vrm_pyro.data.rows.counts import RowReport, add_counts
from vrm_pyro.data.rows.order import NOTHING, RowOrder
from vrm_pyro.data.rows.ranked_row import RankedResponses, SeveralResponses
from vrm_pyro.data.rows.ranking_pairs import NO_RANKING, pair_weight, pairs_of
from vrm_pyro.data.rows.schema import RatedResponse, Row
from vrm_pyro.data.rows.table import PreferenceTable
from vrm_pyro.errors import InputError


def prompt_key(prompt: list[Message]) -> str:
    """Return the key that identifies a prompt, for merging and for splits.

    >>> prompt_key([{"role": "user", "content": "Hi"}])
    '[["user", "Hi"]]'
    """
    turns = [[turn["role"], turn["content"], *filter(None, [extras(turn)])] for turn in prompt]
    return json.dumps(turns, ensure_ascii=False)


class TableBuilder:
    """Adds rows one at a time and merges equal prompts and responses.

    Prompts are equal if all their messages are; responses are equal if prompt and text are. If a
    response is rated several times, each objective keeps the mean of its *different* values:
    files of comparisons repeat a rating for every pair of the response, and copies must not
    count as votes.
    """

    def __init__(self) -> None:
        self._prompts: list[list[Message]] = []
        self._prompt_index: dict[str, int] = {}
        self._responses: list[str] = []
        self._response_prompt: list[int] = []
        self._response_index: dict[tuple[int, str], int] = {}
        self._response_id: list[str | None] = []
        self._response_subset: list[str | None] = []
        self._response_place: list[str | None] = []
        #: Location of the row that is added next, such as ``rows.jsonl:214``.
        self.place: str | None = None
        #: Its position in the input.
        self.row = 0
        self._items: list[tuple[int, int, int, int]] = []
        self._item_ids: list[str | None] = []
        self._ratings: list[dict[str, float]] = []
        self._conflicts: dict[tuple[int, str], list[float]] = {}
        self._pairs: list[tuple[int, int]] = []
        self._pair_numbers: list[tuple[float, float]] = []
        self._pair_margins: list[float] = []
        self._pair_rankings: list[int] = []
        self._num_rankings = 0
        self._pair_labels: list[tuple[str | None, str | None, str | None]] = []

    @property
    def num_responses(self) -> int:
        """Number of responses added so far."""
        return len(self._responses)

    @property
    def rated_objectives(self) -> tuple[str, ...]:
        """Objectives with at least one rating, sorted by name."""
        return tuple(sorted({name for ratings in self._ratings for name in ratings}))

    def add(self, row: Row) -> None:
        """Add a checked row."""
        prompt = self.add_prompt(row.prompt)
        subset = row.labels["subset"]
        if isinstance(row, RatedResponse):
            name = row.labels["id"]
            index = self.add_response(prompt, row.response, row.ratings, name, subset)
            self.add_item(NOTHING, index, name)
            return
        if isinstance(row, SeveralResponses):
            name = row.labels["id"]
            for place, text in enumerate(row.responses):
                index = self.add_response(prompt, text, row.ratings[place], name, subset)
                self.add_item(NOTHING, index, name, place)
            return
        if isinstance(row, RankedResponses):
            self._add_ranking(prompt, row)
            return
        first = self.add_response(prompt, row.chosen, row.chosen_ratings, None, subset)
        second = self.add_response(prompt, row.rejected, row.rejected_ratings, None, subset)
        labels = (row.labels["id"], subset, row.labels["source"])
        self.add_pair(first, second, row.preference, row.weight, labels, row.margin)

    def _add_ranking(self, prompt: int, row: RankedResponses) -> None:
        """Add all pairs of a ranking; a ranking of two responses is an ordinary pair."""
        subset, size = row.labels["subset"], len(row.responses)
        items = [
            self.add_response(prompt, text, ratings, None, subset)
            for text, ratings in zip(row.responses, row.ratings, strict=True)
        ]
        number = self.new_ranking() if size > 2 else NO_RANKING
        labels = (row.labels["id"], subset, row.labels["source"])
        weight = pair_weight(row.weight, size)
        for better, worse in pairs_of(size):
            self.add_pair(items[better], items[worse], 1.0, weight, labels, ranking=number)

    def new_ranking(self) -> int:
        """Return a number for a ranking whose pairs are added next."""
        self._num_rankings += 1
        return self._num_rankings - 1

    def add_prompt(self, prompt: list[Message]) -> int:
        """Add a prompt if it is new; return its index."""
        index = self._prompt_index.setdefault(prompt_key(prompt), len(self._prompts))
        if index == len(self._prompts):
            self._prompts.append(prompt)
        return index

    def add_response(
        self,
        prompt: int,
        text: str,
        ratings: Mapping[str, float],
        identifier: str | None,
        subset: str | None,
    ) -> int:
        """Add a response and its ratings, or merge them into an equal one; return its index."""
        index = self._response_index.setdefault((prompt, text), len(self._responses))
        if index == len(self._responses):
            self._responses.append(text)
            self._response_prompt.append(prompt)
            self._response_id.append(None)
            self._response_subset.append(None)
            self._response_place.append(self.place)
            self._ratings.append({})
        self._response_id[index] = self._response_id[index] or identifier
        self._response_subset[index] = self._response_subset[index] or subset
        known = self._ratings[index]
        for name, value in ratings.items():
            if known.setdefault(name, value) != value:
                values = self._conflicts.setdefault((index, name), [known[name]])
                if value not in values:
                    values.append(value)
        return index

    def add_pair(
        self,
        first: int,
        second: int,
        preference: float,
        weight: float,
        labels: tuple[str | None, str | None, str | None],
        margin: float = math.nan,
        ranking: int = NO_RANKING,
    ) -> None:
        """Add a pair of responses with its labels, margin (NaN if unknown) and ranking."""
        self._pairs.append((first, second))
        self._pair_numbers.append((preference, weight))
        self._pair_margins.append(margin)
        self._pair_rankings.append(ranking)
        self._pair_labels.append(labels)
        self.add_item(len(self._pairs) - 1, NOTHING, labels[0])

    def add_item(self, pair: int, response: int, identifier: str | None, index: int = 0) -> None:
        """Note that the row that is added next asks for a pair, or for its response ``index``."""
        self._items.append((self.row, pair, response, index))
        self._item_ids.append(identifier)

    def conflicting_ratings(self, objectives: Sequence[str]) -> int:
        """Count ratings of these objectives that came with several different values."""
        return sum(name in objectives for _, name in self._conflicts)

    def build(self, objectives: tuple[str, ...], report: RowReport) -> PreferenceTable:
        """Return the table, with ratings of these objectives in this order."""
        columns = {name: column for column, name in enumerate(objectives)}
        ratings = np.full((len(self._responses), len(objectives)), np.nan)
        for index, values in enumerate(self._ratings):
            for name, value in values.items():
                if name in columns:
                    ratings[index, columns[name]] = value
        for (index, name), several in self._conflicts.items():
            if name in columns:
                ratings[index, columns[name]] = np.mean(several)
        pairs = np.asarray(self._pairs, dtype=np.int64).reshape(-1, 2)
        numbers = np.asarray(self._pair_numbers, dtype=np.float64).reshape(-1, 2)
        return PreferenceTable(
            prompts=self._prompts,
            responses=self._responses,
            response_prompt=np.asarray(self._response_prompt, dtype=np.int64),
            pair_first=pairs[:, 0].copy(),
            pair_second=pairs[:, 1].copy(),
            preference=numbers[:, 0].copy(),
            pair_weight=numbers[:, 1].copy(),
            ratings=ratings,
            objectives=objectives,
            pair_id=[labels[0] for labels in self._pair_labels],
            pair_subset=[labels[1] for labels in self._pair_labels],
            pair_source=[labels[2] for labels in self._pair_labels],
            response_id=self._response_id,
            response_subset=self._response_subset,
            response_place=self._response_place,
            report=report,
            pair_margin=np.asarray(self._pair_margins, dtype=np.float64),
            pair_ranking=np.asarray(self._pair_rankings, dtype=np.int64),
            order=RowOrder.of(self._items, self._item_ids),
        )


def concatenate(tables: Sequence[PreferenceTable]) -> PreferenceTable:
    """Concatenate tables and merge equal prompts and responses.

    The result has the objectives of all tables, in order of first appearance. Ratings of one
    response that differ between tables are averaged, with equal weight for each table, and
    counted.

    >>> from vrm_pyro.data.rows import load_table
    >>> rows = [{"prompt": "2 + 2?", "chosen": "4", "rejected": wrong} for wrong in ("5", "6")]
    >>> both = concatenate([load_table(rows[:1]), load_table(rows[1:])])
    >>> both.num_prompts, both.responses
    (1, ['4', '5', '6'])

    Raises:
        InputError: If no table is given.
    """
    if not tables:
        raise InputError("concatenate: give at least one table.")
    builder, before = TableBuilder(), 0
    for table in tables:
        prompts = [builder.add_prompt(prompt) for prompt in table.prompts]
        responses = [
            builder.add_response(
                prompts[table.response_prompt[index]],
                text,
                {
                    name: float(value)
                    for name, value in zip(table.objectives, table.ratings[index], strict=True)
                    if not np.isnan(value)
                },
                table.response_id[index],
                table.response_subset[index],
            )
            for index, text in enumerate(table.responses)
        ]
        numbers = {NO_RANKING: NO_RANKING}
        for number in table.ranking_numbers:
            numbers[number] = builder.new_ranking()
        order = table.row_order
        for item, pair in enumerate(order.pair.tolist()):
            builder.row = before + int(order.row[item])
            if pair < 0:
                response = responses[order.response[item]]
                builder.add_item(NOTHING, response, order.ids[item], int(order.index[item]))
                continue
            builder.add_pair(
                responses[table.pair_first[pair]],
                responses[table.pair_second[pair]],
                float(table.preference[pair]),
                float(table.pair_weight[pair]),
                (table.pair_id[pair], table.pair_subset[pair], table.pair_source[pair]),
                float(table.pair_margin[pair]),
                numbers[int(table.pair_ranking[pair])],
            )
        before += max(table.report.rows_read, int(order.row.max(initial=-1)) + 1)
    objectives = tuple(dict.fromkeys(name for table in tables for name in table.objectives))
    return builder.build(objectives, _joint_report(tables, builder, objectives))


def _joint_report(
    tables: Sequence[PreferenceTable], builder: TableBuilder, objectives: tuple[str, ...]
) -> RowReport:
    reports = [table.report for table in tables]
    names = ("invalid", "dropped", "extra", "schemas", "unused_columns")
    counts: dict[str, dict[str, int]] = {name: {} for name in names}
    for report in reports:
        for name, total in counts.items():
            counts[name] = add_counts(total, getattr(report, name))
    ignored = {name for report in reports for name in report.ignored_objectives}
    absent = {name for report in reports for name in report.absent_objectives}
    return RowReport(
        rows_read=sum(report.rows_read for report in reports),
        comparisons=sum(report.comparisons for report in reports),
        rated_responses=sum(report.rated_responses for report in reports),
        rankings=sum(report.rankings for report in reports),
        margins=sum(report.margins for report in reports),
        margins_ignored=sum(report.margins_ignored for report in reports),
        conflicting_ratings=sum(report.conflicting_ratings for report in reports)
        + builder.conflicting_ratings(objectives),
        cut_inside_word=sum(report.cut_inside_word for report in reports),
        templated_prompts=sum(report.templated_prompts for report in reports),
        ignored_objectives=tuple(sorted(ignored)),
        absent_objectives=tuple(sorted(absent - set(builder.rated_objectives))),
        **counts,
    )

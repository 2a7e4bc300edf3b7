"""Load rows into a checked table, or raise one error that lists every invalid row."""

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.rows.builder import TableBuilder
from vrm_pyro.data.rows.counts import RowReport
from vrm_pyro.data.rows.prompts import is_templated
from vrm_pyro.data.rows.ranked_row import RankedResponses, SeveralResponses
from vrm_pyro.data.rows.ranking_pairs import pairs_of
from vrm_pyro.data.rows.readers import ReadAs, Source, TableSpec, open_sources
from vrm_pyro.data.rows.schema import Comparison, RatedResponse, Row, close_name, parse_row
from vrm_pyro.data.rows.table import PreferenceTable
from vrm_pyro.data.schemas.reading import Reading, describe
from vrm_pyro.errors import InputError, NoUsableRow

MAX_LISTED = 20
IDENTICAL = "identical responses"
# Problems of rows whose columns are not those of rows: the listing then shows one row.
_OF_COLUMNS = ("missing column", "unclear columns", "misspelled column", "no shared prompt")
_FORGOTTEN_PROMPT = '"prompt" is missing, while other rows of this file have it. Fill it in.'


def load_table(
    spec: TableSpec,
    *,
    objectives: Sequence[str] | None = None,
    skip_invalid: bool = False,
    split: str = "train",
    schema: str | None = None,
    columns: str | Mapping[str, str] | None = None,
    every_row: bool = False,
) -> PreferenceTable:
    """Read and check rows, and merge equal prompts and responses.

    >>> rows = [
    ...     {"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "chosen_ratings": {"truth": 1.0}},
    ...     {"prompt": "2 + 2?", "chosen": "4", "rejected": "Who knows?"},
    ... ]
    >>> table = load_table(rows)
    >>> table.num_prompts, table.num_responses, table.num_pairs
    (1, 3, 2)
    >>> table.objectives, table.ratings[:, 0].tolist()
    (('truth',), [1.0, nan, nan])

    Args:
        spec: A file (.jsonl, .json, .csv, .tsv, .parquet, .arrow; text formats also compressed),
            a glob, a directory written by ``save_to_disk``, a Hub id (``owner/name``, or
            ``owner/name:config``), a ``datasets`` data set, rows as dicts, or a list of these.
        objectives: Objectives to keep, in this order; an objective no row rates becomes a column
            of NaN. When omitted, all rated objectives, sorted by name.
        skip_invalid: Leave out and count invalid rows instead of raising.
        split: Split of a Hub id or of a data set with several; files are read whole.
        schema: Published form of the rows, one of ``vrm-pyro schemas``, or ``rows`` for none. It
            is found by the columns of each row when omitted.
        columns: What the columns of an own table are, as a mapping or as text:
            ``prompt=question,chosen=answer,chosen_rating.truth=score``. Dots lead into nested
            objects and lists.
        every_row: Also keep rows that nothing is learned from: comparisons of equal responses,
            and several ``responses`` without ``ranks``. To score rows, not to train.

    Returns:
        The table; ``table.report`` holds the counts.

    Raises:
        InputError: If a source cannot be read, rows are invalid (the message lists them by file
            and line), an objective looks misspelled, no row is left, or there is no such schema.

    Warns:
        UserWarning: If implicit prompts end inside a word, or prompts already hold the markers of
            a chat template; gives their number.
    """
    loading = _Loading(every_row)
    sources = open_sources(ReadAs.given(spec, schema, columns), split)
    for source in sources:
        loading.read(source)
    if loading.problems and not skip_invalid:
        raise InputError(_listing(loading))
    report = RowReport(
        rows_read=loading.rows_read,
        comparisons=loading.comparisons,
        rated_responses=loading.rated_responses,
        rankings=loading.rankings,
        invalid=loading.invalid_counts(),
        dropped={IDENTICAL: loading.identical} if loading.identical else {},
        margins=loading.margins,
        cut_inside_word=loading.cut_inside_word,
        templated_prompts=loading.templated,
        schemas=dict(loading.schemas),
        unused_columns=dict(loading.unused),
    )
    if loading.builder.num_responses == 0:
        names = ", ".join(source.name for source in sources[:3])
        raise NoUsableRow(
            f"{names}: no usable row is left ({report.summary()}). {_first_problem(loading)}"
        )
    _warn(report)
    rated = loading.builder.rated_objectives
    wanted = rated if objectives is None else tuple(objectives)
    _check_objectives(wanted, rated)
    report = replace(
        report,
        conflicting_ratings=loading.builder.conflicting_ratings(wanted),
        ignored_objectives=tuple(name for name in rated if name not in wanted),
        absent_objectives=tuple(name for name in wanted if name not in rated),
    )
    return loading.builder.build(wanted, report)


@dataclass
class _Loading:
    """Counts and problems of one call of :func:`load_table`."""

    every_row: bool = False
    builder: TableBuilder = field(default_factory=TableBuilder)
    problems: list[tuple[str, RowProblem]] = field(default_factory=list)
    refused: Mapping[str, Any] | None = None
    schemas: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    rows_read: int = 0
    comparisons: int = 0
    rated_responses: int = 0
    rankings: int = 0
    identical: int = 0
    margins: int = 0
    cut_inside_word: int = 0
    templated: int = 0

    def read(self, source: Source) -> None:
        """Check and add all rows of a source."""
        explicit_prompts = False
        waiting: list[tuple[str, int, Comparison]] = []
        for place, raw in source.rows:
            self.rows_read += 1
            try:
                rows = self._parse(raw, source.reading)
            except RowProblem as problem:
                self._refuse(place, problem, raw)
                continue
            for row in rows:
                if isinstance(row, Comparison) and row.implicit_text:
                    waiting.append((place, self.rows_read - 1, row))
                else:
                    explicit_prompts = True
                    self._add(row, place, self.rows_read - 1)
        for place, position, row in waiting:
            # Two texts often share a first letter, so a row without a prompt among rows with one
            # is a mistake, not an implicit prompt.
            if explicit_prompts:
                self.problems.append((place, RowProblem("missing column", _FORGOTTEN_PROMPT)))
            else:
                self._add(row, place, position)

    def invalid_counts(self) -> dict[str, int]:
        """Count the problems by reason."""
        return dict(Counter(problem.reason for _, problem in self.problems))

    def _parse(self, raw: object, reading: Reading) -> list[Row]:
        """Return the rows that a raw row becomes, all checked, so that none is kept by halves."""
        if isinstance(raw, RowProblem):
            raise raw
        if not isinstance(raw, Mapping):
            return [parse_row(raw, self.every_row)]
        name, found = reading.rows(raw)
        try:
            rows = [parse_row(row, self.every_row) for row in found]
        except RowProblem as problem:
            if name is None:
                raise
            raise RowProblem(problem.reason, f"read as {name}: {problem.message}") from None
        if name is not None:
            self.schemas[name] += 1
        self.unused.update(reading.unused(raw, name))
        return rows

    def _refuse(self, place: str, problem: RowProblem, raw: object) -> None:
        self.problems.append((place, problem))
        if self.refused is None and problem.reason in _OF_COLUMNS and isinstance(raw, Mapping):
            self.refused = raw

    def _add(self, row: Row, place: str, position: int) -> None:
        self.builder.place, self.builder.row = place, position
        self.templated += is_templated(row.prompt)
        if isinstance(row, RatedResponse):
            self.rated_responses += 1
            self.builder.add(row)
            return
        if isinstance(row, SeveralResponses):
            self.rated_responses += len(row.responses)
            self.builder.add(row)
            return
        if isinstance(row, RankedResponses):
            self._add_ranking(row)
            return
        if row.chosen == row.rejected and not self.every_row:
            self.identical += 1
            return
        self.margins += not math.isnan(row.margin)
        self.cut_inside_word += row.cut_inside_word
        self.comparisons += 1
        self.builder.add(row)

    def _add_ranking(self, row: RankedResponses) -> None:
        left = row if self.every_row else row.without_repeats()
        before, after = (len(pairs_of(len(some.responses))) for some in (row, left))
        self.identical += before - after
        if after:
            self.rankings += 1
            self.builder.add(left)


def _listing(loading: _Loading) -> str:
    count = len(loading.problems)
    rows = "1 invalid row" if count == 1 else f"{count:,} invalid rows"
    lines = [f"{rows} of {loading.rows_read:,}; fix them, or leave them out with --skip_invalid:"]
    lines += [f"  {place}: {problem.message}" for place, problem in loading.problems[:MAX_LISTED]]
    rest = Counter(problem.reason for _, problem in loading.problems[MAX_LISTED:])
    if rest:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in rest.items())
        lines.append(f"  ... and {rest.total():,} more ({reasons})")
    if loading.refused is not None:
        lines.append(describe(loading.refused))
    return "\n".join(lines)


def _first_problem(loading: _Loading) -> str:
    if not loading.problems:
        return "Give a file with at least one row whose two responses differ."
    place, problem = loading.problems[0]
    shown = f"\n{describe(loading.refused)}" if loading.refused is not None else ""
    return f"The first invalid one is {place}: {problem.message}{shown}"


def _warn(report: RowReport) -> None:
    if report.cut_inside_word:
        warnings.warn(
            f"{report.cut_inside_word:,} rows without a prompt hold two texts that part inside a "
            'word, so that their responses begin there. Add a "prompt" column.',
            UserWarning,
            stacklevel=3,
        )
    if report.templated_prompts:
        warnings.warn(
            f"{report.templated_prompts:,} rows have a prompt that already holds the markers of a "
            "chat template, which is put around it once more. Give the prompt as messages.",
            UserWarning,
            stacklevel=3,
        )


def _check_objectives(wanted: tuple[str, ...], rated: tuple[str, ...]) -> None:
    if len(set(wanted)) != len(wanted):
        raise InputError(f"objectives: a name repeats in {', '.join(wanted)}.")
    unused = tuple(name for name in rated if name not in wanted)
    for name in wanted:
        # a data set may lack an objective, but a close match is a misspelling
        match = None if name in rated else close_name(name, unused)
        if match is not None:
            raise InputError(
                f'objectives: no row rates "{name}"; did you mean "{match}"? Rated are '
                f"{', '.join(rated)}."
            )

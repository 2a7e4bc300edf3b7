"""Read the cases of a benchmark, and the table of their texts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.rows import PreferenceTable, ReadAs, TableSpec, load_table
from vrm_pyro.data.rows.readers import open_sources
from vrm_pyro.data.schemas.reading import ROWS, Reading
from vrm_pyro.diagnostics.suites.suite import Case, Suite
from vrm_pyro.errors import InputError

_LISTED = 10


@dataclass(frozen=True)
class _Columns(Reading):
    """Read a benchmark's columns; rows are not converted."""

    wanted: frozenset[str] = field(default_factory=frozenset)

    @property
    def read(self) -> frozenset[str]:
        """Columns whose values are needed."""
        return self.wanted


def read_cases(
    suite: Suite, data: TableSpec, split: str | None = None, skip_invalid: bool = False
) -> tuple[list[Case], dict[str, int]]:
    """Return the cases of a benchmark's rows, and how many rows were left out by reason.

    Args:
        suite: The benchmark.
        data: Its rows: files, patterns, Hub ids, rows as dicts, or a list of these.
        split: Split of a Hub id; the one that the benchmark publishes when omitted.
        skip_invalid: Leave out and count unusable rows instead of stopping at them.

    Raises:
        InputError: If rows cannot be read, some are no rows of the benchmark, or none is left.
    """
    reading = _Columns(wanted=frozenset(suite.columns))
    found: list[Case] = []
    problems: list[tuple[str, RowProblem]] = []
    rows = 0
    for part in _parts(data):
        for source in open_sources(part, split or suite.split(str(part)), reading):
            for place, raw in source.rows:
                rows += 1
                try:
                    found += _cases(suite, raw, place)
                except RowProblem as problem:
                    problems.append((place, problem))
    if problems and not skip_invalid:
        listed = [f"  {place}: {problem.message}" for place, problem in problems[:_LISTED]]
        more = [f"  ... and {len(problems) - _LISTED:,} more"] if len(problems) > _LISTED else []
        raise InputError(
            "\n".join(
                [
                    f"{len(problems):,} of {rows:,} rows are not rows of {suite.title}; fix them, "
                    "or leave them out with --skip_invalid (the score is then not the official "
                    "one):",
                    *listed,
                    *more,
                ]
            )
        )
    if not found:
        raise InputError(f"no row of {suite.title} is left of {rows:,}.")
    return found, dict(Counter(problem.reason for _, problem in problems))


def _parts(data: TableSpec) -> list[Any]:
    """Return the files and data sets of a list, each with a split of its own."""
    if isinstance(data, list | tuple) and all(isinstance(item, str | Path) for item in data):
        return list(data)
    return [data]


def _cases(suite: Suite, raw: object, place: str) -> list[Case]:
    if isinstance(raw, RowProblem):
        raise raw
    if not isinstance(raw, Mapping):
        raise RowProblem("wrong type", "a row must be a JSON object.")
    found = suite.cases(raw, place)
    for case in found:
        if case.prompt in (None, "", []):
            raise RowProblem("missing column", '"prompt" is missing or empty.')
    return found


class CaseTable(NamedTuple):
    """The texts of cases, each stored once, and where they are.

    Attributes:
        table: Prompts, responses and comparisons.
        responses: Index of the response of each completion, by case.
        pairs: Index of the pair of each comparison, by case.
    """

    table: PreferenceTable
    responses: list[NDArray[np.int64]]
    pairs: list[NDArray[np.int64]]

    @property
    def num_completions(self) -> int:
        """Number of completions; equal ones to one prompt are scored once."""
        return sum(map(len, self.responses))


def case_table(cases: Sequence[Case]) -> CaseTable:
    """Return the table of all completions and comparisons of some cases.

    >>> case = Case.of_sides("7", "Focus", "2 + 2?", ["4"], ["5", "4"])
    >>> found = case_table([case])
    >>> found.table.responses, found.responses[0].tolist()
    (['4', '5'], [0, 1, 0])

    Raises:
        InputError: If a prompt is not usable.
    """
    rows: list[dict[str, Any]] = []
    owner: list[int] = []
    for number, case in enumerate(cases):
        rows.append({"prompt": case.prompt, "responses": list(case.responses), "id": case.name})
        rows += [
            {
                "prompt": case.prompt,
                "chosen": case.responses[better],
                "rejected": case.responses[worse],
                "id": case.name,
            }
            for better, worse in case.pairs
        ]
        owner += [number] * (len(case.pairs) + 1)
    table = load_table(ReadAs(rows, schema=ROWS), every_row=True)
    order = table.row_order
    case_of = np.array(owner)[order.row]
    singles = order.pair < 0
    ends = np.arange(1, len(cases))

    def by_case(which: NDArray[np.bool_], values: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return np.split(values[which], np.searchsorted(case_of[which], ends))

    return CaseTable(table, by_case(singles, order.response), by_case(~singles, order.pair))

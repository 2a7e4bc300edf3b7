"""Columns of a user's own table, by what they mean: ``prompt=question,chosen=response_j``."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.schemas.schema import kind
from vrm_pyro.data.schemas.values import field, number, turns
from vrm_pyro.errors import InputError, did_you_mean

TEXTS = ("prompt", "chosen", "rejected", "response", "responses", "system")
NUMBERS = ("preference", "weight", "margin")
PLAIN = (*TEXTS, *NUMBERS, "ranks", "id", "subset", "source", "tools", "chat_template_kwargs")
RATINGS = {
    "rating": "ratings",
    "ratings": "ratings",
    "chosen_rating": "chosen_ratings",
    "chosen_ratings": "chosen_ratings",
    "rejected_rating": "rejected_ratings",
    "rejected_ratings": "rejected_ratings",
}
NATIVE = frozenset((*PLAIN, *RATINGS.values()))
"""All columns of rows."""


@dataclass(frozen=True)
class OwnColumns:
    """Which column of a table is which column of rows.

    Args:
        sources: Column of the table by column of rows; dots lead into nested objects and lists.
            A rating is ``rating.OBJECTIVE``, or ``chosen_rating.OBJECTIVE`` and
            ``rejected_rating.OBJECTIVE``.
    """

    sources: Mapping[str, str]

    @classmethod
    def parse(cls, columns: str | Mapping[str, str]) -> "OwnColumns":
        """Read ``prompt=question,chosen=answer``, or the mapping that this means.

        >>> OwnColumns.parse("prompt=question, rating.truth=t").sources
        {'prompt': 'question', 'rating.truth': 't'}

        Raises:
            InputError: If it is not of this form, or names a column that rows do not have.
        """
        pairs = list(_pairs(columns) if isinstance(columns, str) else columns.items())
        if not pairs:
            raise InputError("data.columns is empty; write prompt=question,chosen=answer.")
        sources: dict[str, str] = {}
        for target, source in pairs:
            _check(target)
            if not source or not isinstance(source, str):
                raise InputError(f"data.columns: {target} names no column.")
            if target in sources:
                raise InputError(f"data.columns: {target} is given more than once.")
            sources[target] = source
        return cls(sources)

    @property
    def read(self) -> frozenset[str]:
        """Names of the columns of the table whose values are needed."""
        names = set(self.sources.values())
        return frozenset(names | {name.partition(".")[0] for name in names})

    def convert(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row with the columns of rows; others that rows know are kept.

        Raises:
            RowProblem: If a column is not there, or a number is none.
        """
        used = self.read
        found = {name: row[name] for name in row if name in NATIVE and name not in used}
        for target, source in self.sources.items():
            if source not in row and source.partition(".")[0] not in row:
                raise RowProblem(
                    "missing column",
                    f'there is no column "{source}", which data.columns reads as "{target}".',
                )
            value = field(row, source)
            name, _, objective = target.partition(".")
            if objective:
                ratings = found.setdefault(RATINGS[name], {})
                ratings[objective] = number(value, source)
            elif target in NUMBERS:
                found[target] = number(value, source)
            elif target in TEXTS and (kind(value) == "list:messages" or _message(value)):
                found[target] = turns(value, source)
            else:
                found[RATINGS.get(target, target)] = value
        return found


def _message(value: Any) -> bool:
    return isinstance(value, Mapping) and not {"role", "from"}.isdisjoint(value)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for item in itertools.filterfalse(lambda part: not part.strip(), text.split(",")):
        target, equals, source = item.partition("=")
        if not equals:
            raise InputError(
                f"data.columns: {item.strip()!r} is not of the form column=column; write "
                "prompt=question,chosen=answer,rejected=other."
            )
        yield target.strip(), source.strip()


def _check(target: str) -> None:
    name, _, objective = str(target).partition(".")
    if objective and name in RATINGS:
        return
    if target not in NATIVE and target not in RATINGS:
        raise InputError(
            f"data.columns: rows have no column {target!r}"
            f"{did_you_mean(str(target), NATIVE)} Columns are {', '.join(PLAIN)}, and ratings as "
            "rating.OBJECTIVE, chosen_rating.OBJECTIVE and rejected_rating.OBJECTIVE."
        )

"""A published form of preference data: how it is recognised, and how it becomes rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from vrm_pyro.data.schemas.transcript import is_transcript

Row: TypeAlias = Mapping[str, Any]
Columns: TypeAlias = Mapping[str, str]
"""Kind of the value of each column of a row, see :func:`kind`."""

TEXT_COLUMNS = frozenset(("prompt", "chosen", "rejected", "response", "responses"))
"""Columns of rows that hold texts. A schema never passes over one of them."""


def kind(value: object) -> str:
    """Return the kind of a value, with its refinement after a colon.

    >>> [kind(value) for value in (4, "Hi", ["Hi"], [{"role": "user", "content": "Hi"}], None)]
    ['number', 'text', 'list:texts', 'list:messages', 'null']
    """
    if isinstance(value, str):
        return "text:transcript" if is_transcript(value) else "text"
    if isinstance(value, list | tuple):
        first = value[0] if value else None
        if isinstance(first, Mapping) and not {"role", "from"}.isdisjoint(first):
            return "list:messages"
        return "list:texts" if isinstance(first, str) else "list"
    if isinstance(value, Mapping):
        return "object"
    if isinstance(value, bool):
        return "bool"
    return "null" if value is None else "number"


@dataclass(frozen=True)
class Schema:
    """A published form of preference data.

    Args:
        text: Documentation: where the form is published, its label rule, and what becomes of
            ratings, ties and strengths. The first line is its title.
        columns: Columns that a row must have, with the kinds that their values may be of,
            separated by ``|``; "" is any kind.
        convert: Returns the rows that one published row becomes.
        optional: Further columns that are known, whether they are used or not.
        only: Whether a row with other columns is not of this form.
        automatic: Whether rows are recognised; else the form is read on request alone.
    """

    text: str
    columns: Columns
    convert: Callable[[Row], list[dict[str, Any]]]
    optional: tuple[str, ...] = ()
    only: bool = False
    automatic: bool = True

    @property
    def title(self) -> str:
        """First line of the documentation."""
        return self.text.strip().splitlines()[0].rstrip(".")

    def described(self) -> str:
        """Return the documentation with the columns, as paragraphs."""
        title, _, rest = self.text.strip().partition("\n\n")
        columns = [
            f"``{name}``" + (f" ({wanted.replace('|', ' or ')})" if wanted else "")
            for name, wanted in self.columns.items()
        ]
        parts = [title, f"Columns: {', '.join(columns)}."]
        if self.optional:
            parts.append(f"Also known: {', '.join(f'``{name}``' for name in self.optional)}.")
        return "\n\n".join([*parts, rest])

    @property
    def known(self) -> frozenset[str]:
        """All columns of the published form that are named here."""
        return frozenset((*self.columns, *self.optional))

    def misfits(self, columns: Columns) -> list[str]:
        """Return the columns that a row lacks, or has with a value of another kind."""
        return [
            name
            for name, wanted in self.columns.items()
            if name not in columns or not _fits(columns[name], wanted)
        ]

    def matches(self, columns: Columns) -> bool:
        """Whether a row with these columns is of this form: all are there, of the right kind."""
        if self.misfits(columns):
            return False
        others = {name for name, found in columns.items() if found != "null"} - self.known
        return not others & TEXT_COLUMNS and not (self.only and others)


def _fits(found: str, wanted: str) -> bool:
    return not wanted or any(
        found == name or found.startswith(f"{name}:") for name in wanted.split("|")
    )

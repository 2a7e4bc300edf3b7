"""How the rows of a source are read: by a schema that is found, by a given one, or by columns."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.schemas.own_columns import NATIVE, OwnColumns
from vrm_pyro.data.schemas.schema import Schema, kind
from vrm_pyro.data.schemas.table import (
    SCHEMA_COLUMNS,
    SCHEMAS,
    find_schema,
    missing_columns,
    nearest_schema,
)
from vrm_pyro.errors import InputError, did_you_mean

ROWS = "rows"
"""Name that asks for no schema: the columns are those of rows."""

# Columns that a row keeps whatever it is converted from.
_LABELS = (
    "id",
    "subset",
    "source",
    "system",
    "weight",
    "margin",
    "tools",
    "chat_template_kwargs",
)
# The same where the schema has no use for them itself.
_RATINGS = ("preference", "ratings", "chosen_ratings", "rejected_ratings")
_SHOWN = 400


@dataclass(frozen=True)
class Reading:
    """How published or own columns become the columns of rows.

    Args:
        schema: Name of a schema, ``rows`` for none; None finds it by the columns of each row.
        columns: Columns of an own table; no schema is looked for then.
    """

    schema: str | None = None
    columns: OwnColumns | None = None

    @classmethod
    def of(cls, schema: str | None, columns: str | Mapping[str, str] | None) -> "Reading":
        """Check both settings.

        Raises:
            InputError: If there is no such schema, columns are malformed, or both are given.
        """
        if schema is not None and schema not in (*SCHEMAS, ROWS):
            raise InputError(
                f"data.schema: no schema {schema!r}{did_you_mean(schema, (*SCHEMAS, ROWS))} "
                "vrm-pyro schemas lists them."
            )
        if schema is not None and columns is not None:
            raise InputError("data.schema and data.columns are both given; give one of them.")
        return cls(schema, None if columns is None else OwnColumns.parse(columns))

    @property
    def read(self) -> frozenset[str]:
        """Columns, beside those of rows, whose values are needed."""
        return SCHEMA_COLUMNS if self.columns is None else self.columns.read

    def rows(self, raw: Mapping[str, Any]) -> tuple[str | None, list[Mapping[str, Any]]]:
        """Return the schema a raw row was read by, None for none, and the rows it becomes.

        Raises:
            RowProblem: If the row is not what the schema says.
        """
        if self.columns is not None:
            return None, [self.columns.convert(raw)]
        name = self.schema or find_schema(raw)
        if name is None or name == ROWS:
            return None, [raw]
        misfits = SCHEMAS[name].misfits({n: kind(value) for n, value in raw.items()})
        if misfits:
            wanted = SCHEMAS[name].columns[misfits[0]].replace("|", " or ") or "given"
            found = f"is {kind(raw[misfits[0]])}" if misfits[0] in raw else "is missing"
            raise RowProblem(
                "missing column",
                f'read as {name}: "{misfits[0]}" {found}, but must be {wanted}.',
            )
        try:
            return name, [_kept(raw, row, SCHEMAS[name]) for row in SCHEMAS[name].convert(raw)]
        except RowProblem as problem:
            raise RowProblem(problem.reason, f"read as {name}: {problem.message}") from None

    def unused(self, raw: Mapping[str, Any], name: str | None) -> list[str]:
        """Return the number columns of a raw row, read by schema ``name``, that nothing uses."""
        if self.columns is not None:
            known = NATIVE | self.columns.read
        else:
            known = NATIVE | SCHEMAS[name].known if name else NATIVE
        return [_printable(n) for n, value in raw.items() if n not in known and _is_number(value)]


def describe(raw: Mapping[str, Any]) -> str:
    """Return what a refusal shows of a row: its columns, the nearest schema, and the row."""
    columns = [_printable(name) for name in raw]
    lines = [f"columns: {', '.join(columns[:40]) or 'none'}"]
    near = nearest_schema(columns)
    if near is not None:
        lines.append(f"nearest schema: {near}, which {_difference(near, columns)}")
    shown = json.dumps(raw, ensure_ascii=True, default=str)
    lines.append(f"row as read: {shown[:_SHOWN]}{'...' if len(shown) > _SHOWN else ''}")
    lines.append(
        "Name the columns with --data.columns prompt=COLUMN,chosen=COLUMN,rejected=COLUMN, or a "
        "schema with --data.schema NAME; vrm-pyro schemas lists them."
    )
    return "\n".join(f"  {line}" for line in lines)


def _difference(name: str, columns: list[str]) -> str:
    lacking = missing_columns(name, columns)
    return f"also needs {_quoted(lacking)}" if lacking else "has these columns with other values"


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _kept(raw: Mapping[str, Any], row: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """Return a converted row with the columns that it keeps from the published one."""
    passed = (*_LABELS, *(name for name in _RATINGS if name not in schema.known))
    found = {name: raw[name] for name in passed if raw.get(name) not in (None, "", [])}
    for name in ("id", "subset", "source"):
        if isinstance(found.get(name), list | Mapping):
            del found[name]
    given = found.get("weight")
    if "weight" in row and isinstance(given, int | float):
        row = {**row, "weight": given * row["weight"]}
    return {**found, **row}


def _printable(name: object) -> str:
    return str(name).encode("utf-8", "backslashreplace").decode("utf-8")


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        if len(value) > 32:
            return False
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, int | float) and not isinstance(value, bool)

"""Counts of rows read, kept and left out, stored with a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class RowReport:
    """Counts of rows read, kept and left out, shown before training.

    The counts describe loading. A selection of prompts keeps the report of its table;
    :meth:`PreferenceTable.drop_pairs` and ``with_report`` add to it.

    Args:
        rows_read: Rows in all sources, without blank lines.
        comparisons: Rows kept as a pair of responses.
        rated_responses: Rows kept as a single response, with or without ratings.
        rankings: Rows kept as a ranking of several responses.
        invalid: Rows left out under ``skip_invalid``, by reason.
        dropped: Valid pairs left out, by reason, such as "identical responses".
        margins: Rows with a ``margin``.
        margins_ignored: Rows whose ``margin`` is not used, because the model's likelihood takes
            none, or because the feature store predates margins.
        conflicting_ratings: Ratings (response and objective) that came with several different
            values and were averaged.
        cut_inside_word: Rows whose implicit prompt ends inside a word.
        templated_prompts: Rows whose prompt already holds the markers of a chat template.
        schemas: Rows read by a schema, by its name.
        unused_columns: Rows with a number in a column that nothing uses, by its name.
        ignored_objectives: Objectives in the rows that were not requested.
        absent_objectives: Requested objectives that no row rates.
        extra: Counts added by later steps, such as truncated texts.
    """

    rows_read: int = 0
    comparisons: int = 0
    rated_responses: int = 0
    rankings: int = 0
    invalid: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    margins: int = 0
    margins_ignored: int = 0
    conflicting_ratings: int = 0
    cut_inside_word: int = 0
    templated_prompts: int = 0
    schemas: Mapping[str, int] = field(default_factory=dict)
    unused_columns: Mapping[str, int] = field(default_factory=dict)
    ignored_objectives: tuple[str, ...] = ()
    absent_objectives: tuple[str, ...] = ()
    extra: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows_kept(self) -> int:
        """Number of rows in the table."""
        return self.comparisons + self.rated_responses + self.rankings

    def with_dropped(self, reason: str, count: int) -> "RowReport":
        """Return a copy with ``count`` more pairs dropped for ``reason``."""
        dropped = dict(self.dropped)
        dropped[reason] = dropped.get(reason, 0) + count
        return replace(self, dropped=dropped)

    def with_extra(self, counts: Mapping[str, int]) -> "RowReport":
        """Return a copy with more named counts; counts of the same name are added."""
        return replace(self, extra=add_counts(self.extra, counts))

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "rows_read": self.rows_read,
            "rows_kept": self.rows_kept,
            "comparisons": self.comparisons,
            "rated_responses": self.rated_responses,
            "rankings": self.rankings,
            "invalid": dict(self.invalid),
            "dropped": dict(self.dropped),
            "margins": self.margins,
            "margins_ignored": self.margins_ignored,
            "conflicting_ratings": self.conflicting_ratings,
            "cut_inside_word": self.cut_inside_word,
            "templated_prompts": self.templated_prompts,
            "schemas": dict(self.schemas),
            "unused_columns": dict(self.unused_columns),
            "ignored_objectives": list(self.ignored_objectives),
            "absent_objectives": list(self.absent_objectives),
            **dict(self.extra),
        }

    def summary(self) -> str:
        """Return one log line with the rows read, kept and left out, with reasons.

        >>> RowReport(rows_read=9, comparisons=8, invalid={"empty text": 1}).summary()
        '9 rows read: 8 comparisons, 0 single responses; 1 invalid (empty text)'
        """
        parts = [
            f"{self._schema_words()}{self.rows_read:,} rows read: "
            f"{self.comparisons:,} comparisons, {self.rated_responses:,} single responses"
        ]
        if self.rankings:
            parts[0] += f", {self.rankings:,} rankings"
        parts += [f"{n:,} invalid ({reason})" for reason, n in self.invalid.items()]
        parts += [f"{n:,} dropped ({reason})" for reason, n in self.dropped.items()]
        named = {
            "with a margin": self.margins,
            "margins ignored": self.margins_ignored,
            "conflicting ratings averaged": self.conflicting_ratings,
            "prompts cut inside a word": self.cut_inside_word,
            "prompts already in a chat template": self.templated_prompts,
            **self.extra,
        }
        parts += [f"{n:,} {name}" for name, n in named.items() if n]
        if self.unused_columns:
            columns = ", ".join(f"{name} ({n:,})" for name, n in self.unused_columns.items())
            parts.append(f"number columns ignored: {columns}")
        return "; ".join(parts)

    def _schema_words(self) -> str:
        """Return ``read as NAME: ``, with counts if only some rows were read by it."""
        if not self.schemas:
            return ""
        if list(self.schemas.values()) == [self.rows_read - sum(self.invalid.values())]:
            return f"read as {next(iter(self.schemas))}: "
        return f"read as {', '.join(f'{name} ({n:,})' for name, n in self.schemas.items())}: "


def add_counts(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    """Add two mappings of counts name by name.

    >>> add_counts({"cut": 1}, {"cut": 2, "dropped": 3})
    {'cut': 3, 'dropped': 3}
    """
    total = dict(first)
    for name, count in second.items():
        total[name] = total.get(name, 0) + count
    return total

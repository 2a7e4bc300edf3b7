"""Summarize from feedback: single summaries, rated on four axes.

Published: ``openai/summarize_from_feedback``, subset ``axis``.

Label: none. The prompt is that of ``summarize_feedback``.

Ratings: ``summary.axes``: ``overall``, ``accuracy``, ``coverage``, ``coherence``, 1 to 7, as
objectives of these names; null is missing.

Ties and strengths: none.
"""

from collections.abc import Mapping
from typing import Any

from vrm_pyro.data.schemas.rows import rated
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.summarize_feedback import prompt_of, stripped
from vrm_pyro.data.schemas.values import field, number


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the summary with its ratings."""
    axes = field(row, "summary.axes")
    found = axes if isinstance(axes, Mapping) else {}
    ratings = {name: number(value, f"summary.axes.{name}") for name, value in found.items()}
    return [rated(prompt_of(row), stripped(field(row, "summary.text")), ratings)]


SCHEMA = Schema(
    __doc__, {"info": "object", "summary": "object"}, convert, ("worker", "batch", "split")
)

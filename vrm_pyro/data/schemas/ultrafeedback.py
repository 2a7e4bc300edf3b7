"""UltraFeedback: four completions of an instruction, annotated on four aspects.

Published: ``openbmb/UltraFeedback``.

Label: each two completions with different ``overall_score`` are a comparison, the higher one
preferred; together they weigh one less than there are completions. The published overall scores
of a few completions are known to be wrong (10 for a critique that speaks of 1).

Ratings: ``Rating`` of each aspect under ``annotations``, as its objective; "N/A" is missing. The
overall score is no rating, because the label is made from it.

Ties and strengths: completions with the same overall score make no comparison. The size of a
difference is not used.
"""

from collections.abc import Mapping
from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.schemas.rows import by_score
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import number, objects


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparisons, and completions that are in none."""
    completions = objects(row["completions"], "completions", "response")
    return by_score(
        row["instruction"],
        [completion["response"] for completion in completions],
        [number(c.get("overall_score"), "overall_score") for c in completions],
        [_aspects(c.get("annotations")) for c in completions],
        source=row.get("source"),
    )


def _aspects(annotations: object) -> dict[str, float | None]:
    if annotations is None:
        return {}
    if not isinstance(annotations, Mapping):
        raise RowProblem(
            "bad ratings", f'"annotations" is {annotations!r:.40}, but must be an object.'
        )
    found = {}
    for aspect, judged in annotations.items():
        # in the first release each aspect had a list of one judgment
        one = judged[0] if isinstance(judged, list) and judged else judged
        if isinstance(one, Mapping):
            found[aspect] = number(one.get("Rating"), f"{aspect}.Rating")
    return found


SCHEMA = Schema(
    __doc__,
    {"instruction": "text", "completions": "list"},
    convert,
    ("source", "models", "correct_answers", "incorrect_answers"),
)

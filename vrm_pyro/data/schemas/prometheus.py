"""Prometheus preferences: two responses judged by a criterion.

Published: ``prometheus-eval/Preference-Collection``.

Label: ``orig_preference`` is ``A`` or ``B``. The prompt is ``orig_instruction``; the criterion is
not part of it.

Ratings: ``orig_score_A`` and ``orig_score_B``, 1 to 5, as the objective ``criterion``, which means
something else in every row.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.schemas.rows import comparison
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import choice, number


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison with both scores."""
    preference = choice(row, "orig_preference", {"a": 1.0, "b": 0.0})
    first, second = (
        {"criterion": number(row.get(name), name)} for name in ("orig_score_A", "orig_score_B")
    )
    pair = (row["orig_response_A"], row["orig_response_B"])
    return [comparison(row["orig_instruction"], *pair, preference, (first, second))]


SCHEMA = Schema(
    __doc__,
    dict.fromkeys(
        ("orig_instruction", "orig_response_A", "orig_response_B", "orig_preference"), ""
    ),
    convert,
    (
        "orig_score_A",
        "orig_score_B",
        "orig_criteria",
        "orig_feedback_A",
        "orig_feedback_B",
        "orig_reference_answer",
        "instruction",
        "output",
        "input",
    ),
)

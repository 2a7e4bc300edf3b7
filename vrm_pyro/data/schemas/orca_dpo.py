"""Orca pairs: a system prompt, a question and two answers.

Published: ``Intel/orca_dpo_pairs``, and axolotl's ``chatml.intel``.

Label: ``chosen`` (of the larger model) is preferred. ``system`` is put before the question; an
empty one is left out.

Ratings: none.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.schemas.schema import Row, Schema


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    return [
        {
            "system": row["system"],
            "prompt": row["question"],
            "chosen": row["chosen"],
            "rejected": row["rejected"],
        }
    ]


SCHEMA = Schema(
    __doc__,
    {"system": "text|null", "question": "text", "chosen": "text", "rejected": "text"},
    convert,
    ("id",),
)

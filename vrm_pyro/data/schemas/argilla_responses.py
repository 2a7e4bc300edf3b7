"""Pairs of Argilla's first releases: an instruction, two responses and their mean ratings.

Published: ``argilla/ultrafeedback-binarized-preferences``, and axolotl's ``chatml.argilla``.

Label: ``chosen_response`` is preferred.

Ratings: ``chosen_avg_rating`` and ``rejected_avg_rating``, where given, as the objective
``rating``.

Ties and strengths: equal ratings are a tie (``preference`` 0.5), because the label was made from
them.
"""

from typing import Any

from vrm_pyro.data.schemas.rows import rated_pair
from vrm_pyro.data.schemas.schema import Row, Schema


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison, with ratings where there are some."""
    named = {
        **row,
        "prompt": row["instruction"],
        "chosen": row["chosen_response"],
        "rejected": row["rejected_response"],
    }
    pairs = rated_pair(named, ("chosen_avg_rating", "rejected_avg_rating"), "rating")
    return [{**pair, "system": row.get("system")} for pair in pairs]


SCHEMA = Schema(
    __doc__,
    {"instruction": "text", "chosen_response": "", "rejected_response": ""},
    convert,
    ("source", "system", "chosen_avg_rating", "rejected_avg_rating", "chosen_model"),
)

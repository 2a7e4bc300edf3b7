"""Pairs with the mean rating of each side.

Published: ``argilla/dpo-mix-7k``, ``allenai/llama-3.1-tulu-3-405b-preference-mixture``.

Label: ``chosen`` is preferred.

Ratings: ``chosen_rating`` and ``rejected_rating``, as the objective ``rating``; null is missing.

Ties and strengths: equal ratings are a tie (``preference`` 0.5), because the label was made from
them.
"""

from typing import Any

from vrm_pyro.data.schemas.rows import rated_pair
from vrm_pyro.data.schemas.schema import Row, Schema


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison with both ratings."""
    return rated_pair(row, ("chosen_rating", "rejected_rating"), "rating")


SCHEMA = Schema(
    __doc__,
    {
        "chosen": "text|list:messages",
        "rejected": "text|list:messages",
        "chosen_rating": "number|text|null",
        "rejected_rating": "number|text|null",
    },
    convert,
    ("dataset", "prompt", "chosen_model", "rejected_model", "source", "id"),
)

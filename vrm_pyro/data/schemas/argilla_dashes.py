"""Pairs with the mean rating of each side, spelled with a dash.

Published: ``argilla/ultrafeedback-binarized-preferences-cleaned``.

Label: ``chosen`` is preferred.

Ratings: ``chosen-rating`` and ``rejected-rating``, as the objective ``rating``.

Ties and strengths: equal ratings are a tie (``preference`` 0.5), because the label was made from
them.
"""

from typing import Any

from vrm_pyro.data.schemas.rows import rated_pair
from vrm_pyro.data.schemas.schema import Row, Schema


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison with both ratings."""
    return rated_pair(row, ("chosen-rating", "rejected-rating"), "rating")


SCHEMA = Schema(
    __doc__,
    {
        "chosen": "text|list:messages",
        "rejected": "text|list:messages",
        "chosen-rating": "number|text|null",
        "rejected-rating": "number|text|null",
    },
    convert,
    ("source", "prompt", "chosen-model", "rejected-model"),
)

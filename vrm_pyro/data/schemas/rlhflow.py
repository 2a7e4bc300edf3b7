"""Pairs of conversations with a score of each side.

Published: ``RLHFlow/UltraFeedback-preference-standard`` and others in RLHFlow's form,
``OpenRLHF/preference_dataset_mixture2_and_safe_pku``.

Label: ``chosen`` is preferred.

Ratings: ``chosen_score`` and ``rejected_score``, as the objective ``score``; null is missing.

Ties and strengths: equal scores are a tie (``preference`` 0.5), because the label was made
from them.
"""

from typing import Any

from vrm_pyro.data.schemas.rows import rated_pair
from vrm_pyro.data.schemas.schema import Row, Schema


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison with both ratings."""
    return rated_pair(row, ("chosen_score", "rejected_score"), "score")


SCHEMA = Schema(
    __doc__,
    {
        "chosen": "list:messages",
        "rejected": "list:messages",
        "chosen_score": "number|text|null",
        "rejected_score": "number|text|null",
    },
    convert,
    ("prompt", "source"),
)

"""Capybara: long conversations with a rating of each side.

Published: ``argilla/distilabel-capybara-dpo-7k-binarized``.

Label: ``chosen`` is preferred.

Ratings: ``rating_chosen`` and ``rating_rejected``, as the objective ``rating``.

Ties and strengths: equal ratings are a tie (``preference`` 0.5), because the label was made from
them.
"""

from typing import Any

from vrm_pyro.data.schemas.rows import rated_pair
from vrm_pyro.data.schemas.schema import Row, Schema


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison with both ratings."""
    return rated_pair(row, ("rating_chosen", "rating_rejected"), "rating")


SCHEMA = Schema(
    __doc__,
    {
        "chosen": "list:messages",
        "rejected": "list:messages",
        "rating_chosen": "number|text|null",
        "rating_rejected": "number|text|null",
    },
    convert,
    (
        "prompt",
        "source",
        "conversation",
        "original_response",
        "generation_prompt",
        "raw_generation_responses",
        "new_generations",
        "chosen_model",
        "rejected_model",
    ),
)

"""UltraFeedback as pairs with a score each.

Published: ``HuggingFaceH4/ultrafeedback_binarized``, ``openbmb/UltraFeedback`` in the form of the
alignment handbook.

Label: ``chosen`` is preferred: the completion with the highest score, against another one.

Ratings: ``score_chosen`` and ``score_rejected``, as the objective ``score``. The label is made
from them, which training says.

Ties and strengths: equal scores are a tie (``preference`` 0.5), because the choice between them
was arbitrary.
"""

from typing import Any

from vrm_pyro.data.schemas.rows import rated_pair
from vrm_pyro.data.schemas.schema import Row, Schema


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison with both ratings."""
    return rated_pair(row, ("score_chosen", "score_rejected"), "score")


SCHEMA = Schema(
    __doc__,
    {
        "chosen": "text|list:messages",
        "rejected": "text|list:messages",
        "score_chosen": "number|text|null",
        "score_rejected": "number|text|null",
    },
    convert,
    ("prompt", "prompt_id", "messages"),
)

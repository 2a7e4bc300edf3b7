"""Generations of distilabel: an instruction, several generations and their ratings.

Published: the output of distilabel's step ``UltraFeedback``.

Label: each two generations with different ratings are a comparison, the higher one preferred;
together they weigh one less than there are generations.

Ratings: none, because the label is made from them.

Ties and strengths: generations with the same rating make no comparison.
"""

from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.schemas.rows import by_score
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import items, number


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparisons, and generations that are in none."""
    texts = items(row["generations"], "generations")
    scores = [number(value, "ratings") for value in items(row["ratings"], "ratings")]
    if len(texts) != len(scores):
        raise RowProblem(
            "bad ratings", f'"ratings" has {len(scores)} items for {len(texts)} generations.'
        )
    return by_score(row["instruction"], texts, scores)


SCHEMA = Schema(
    __doc__,
    {"instruction": "text", "generations": "list", "ratings": "list"},
    convert,
    ("model_name", "model_names", "generation_models", "rationales", "distilabel_metadata"),
)

"""Orca pairs, rated again: a system prompt, an input, two answers and two ratings.

Published: ``argilla/distilabel-intel-orca-dpo-pairs``, and axolotl's ``llama3.icr`` without
ratings.

Label: ``chosen`` is preferred; the publisher exchanged the answers where the rating said so.

Ratings: ``rating``, as the objective ``rating``. Each is assigned by its text in ``generations``;
where that is not there, the higher one belongs to ``chosen``, which is how it was chosen.

Ties and strengths: ``status`` "tie" and equal ratings are a tie (``preference`` 0.5).
"""

from typing import Any

from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import items, number


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison, with ratings where there are two."""
    pair = {"system": row["system"], "prompt": row["input"]}
    pair |= {name: row[name] for name in ("chosen", "rejected")}
    if row.get("rating") is None:
        return [pair]
    found = [number(value, "rating") for value in items(row["rating"], "rating")]
    values = [value for value in found if value is not None]
    if len(values) != 2 or len(found) != 2:
        return [pair]
    texts = items(row.get("generations") or [], "generations")
    if texts == [row["rejected"], row["chosen"]]:
        values.reverse()
    elif texts != [row["chosen"], row["rejected"]]:
        values = [max(values), min(values)]
    pair |= {"chosen_ratings": {"rating": values[0]}, "rejected_ratings": {"rating": values[1]}}
    if row.get("status") == "tie" or values[0] == values[1]:
        pair["preference"] = 0.5
    return [pair]


SCHEMA = Schema(
    __doc__,
    {"system": "text|null", "input": "text", "chosen": "text", "rejected": "text"},
    convert,
    (
        "generations",
        "order",
        "rating",
        "status",
        "labelling_model",
        "labelling_prompt",
        "raw_labelling_response",
        "rationale",
        "original_chosen",
        "original_rejected",
        "chosen_score",
        "in_gsm8k_train",
    ),
)

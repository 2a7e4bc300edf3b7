"""Nectar: seven answers to a prompt, ranked.

Published: ``berkeley-nest/Nectar``.

Label: ``rank`` of each answer, 1 the best, is a ranking. The transcript of ``prompt`` is parsed.

Ratings: none.

Ties and strengths: if two answers share a rank, the row becomes the comparisons that are not
tied, which together weigh one less than there are answers.
"""

from typing import Any

from vrm_pyro.data.schemas.rows import ranked
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import needed_number, objects, prompt_text


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the ranking."""
    answers = objects(row["answers"], "answers", "answer")
    ranks = [needed_number(answer, "rank") for answer in answers]
    return ranked(prompt_text(row["prompt"]), [answer["answer"] for answer in answers], ranks)


SCHEMA = Schema(
    __doc__,
    {"prompt": "text", "answers": "list"},
    convert,
    ("turns", "num_responses", "source", "good_natured"),
)

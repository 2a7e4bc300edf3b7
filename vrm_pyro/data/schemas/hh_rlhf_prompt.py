"""Transcripts of hh-rlhf with the prompt apart from the two answers.

Published: ``Dahoas/full-hh-rlhf``, ``Dahoas/static-hh``.

Label: ``chosen`` is preferred. The turns of ``prompt`` are parsed, without the open turn of the
assistant at its end.

Ratings: none.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import prompt_text


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the row with the turns of its prompt."""
    return [
        {
            "prompt": prompt_text(row["prompt"]),
            "chosen": row["chosen"].strip(),
            "rejected": row["rejected"].strip(),
        }
    ]


SCHEMA = Schema(
    __doc__,
    {"prompt": "text:transcript", "chosen": "text", "rejected": "text"},
    convert,
    ("response",),
)

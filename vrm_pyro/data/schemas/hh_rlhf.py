r"""Transcripts of Anthropic's hh-rlhf: each side a whole conversation in one text.

Published: ``Anthropic/hh-rlhf`` and the many sets in its form.

Label: ``chosen`` is preferred. The turns are parsed at ``\n\nHuman:`` and ``\n\nAssistant:``; the
shared ones are the prompt, the last turn of the assistant is the response, whole.
Two conversations that part in an earlier turn are an invalid row: their last turns answer
different prompts.

Ratings: none.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.transcript import parse_transcript


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the row with its conversations as messages."""
    return [{name: parse_transcript(row[name]) for name in ("chosen", "rejected")}]


SCHEMA = Schema(__doc__, {"chosen": "text:transcript", "rejected": "text:transcript"}, convert)

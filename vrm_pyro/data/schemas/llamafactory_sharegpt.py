"""LLaMA-Factory, ShareGPT format: a conversation, and two last turns.

Published: preference data of LLaMA-Factory.

Label: ``chosen`` is preferred; both are one turn with ``from`` and ``value``.

Ratings: none.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import turns


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    pair = {name: turns(row[name], name) for name in ("chosen", "rejected")}
    prompt = turns(row["conversations"], "conversations")
    return [{"prompt": prompt, "system": row.get("system"), **pair}]


SCHEMA = Schema(
    __doc__,
    {"conversations": "list:messages", "chosen": "object", "rejected": "object"},
    convert,
    ("system", "tools"),
)

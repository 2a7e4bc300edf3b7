"""LLaMA-Factory, alpaca format: an instruction with an input, and two answers.

Published: preference data of LLaMA-Factory.

Label: ``chosen`` is preferred. The prompt is ``instruction`` and, below it, ``input``; the pairs
of ``history`` come before it, ``system`` before all.

Ratings: none.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import items, joined


def alpaca_prompt(row: Row) -> dict[str, Any]:
    """Return the columns ``prompt`` and ``system`` of an alpaca row."""
    prompt: Any = joined(row["instruction"], row.get("input"))
    earlier = [items(pair, "history") for pair in items(row.get("history") or [], "history")]
    if earlier:
        roles = ("user", "assistant")
        turns = [(role, text) for pair in earlier for role, text in zip(roles, pair, strict=False)]
        prompt = [{"role": role, "content": text} for role, text in (*turns, ("user", prompt))]
    return {"prompt": prompt, "system": row.get("system")}


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    return [{**alpaca_prompt(row), "chosen": row["chosen"], "rejected": row["rejected"]}]


SCHEMA = Schema(
    __doc__,
    {"instruction": "text", "chosen": "text", "rejected": "text"},
    convert,
    ("input", "system", "history"),
)

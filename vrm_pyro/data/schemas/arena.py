"""Chatbot Arena, two conversations and a winner: the 33k, 100k and 140k releases.

Published: ``lmsys/chatbot_arena_conversations``, ``lmarena-ai/arena-human-preference-100k``,
``lmarena-ai/arena-human-preference-140k``.

Label: ``winner`` is ``model_a`` or ``model_b``. Conversations of several turns part in the first
answer, since each model answered its own earlier turns: an invalid row.

Ratings: none.

Ties and strengths: ``tie``, ``tie (bothbad)`` and ``both_bad`` are ties (``preference`` 0.5); that
both are bad is not told to the model. In the 140k release only the turns of the current vote are
read, ``full_conversation`` is not.
"""

from typing import Any

from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import choice, turns

WINNERS = {
    "model_a": 1.0,
    "model_b": 0.0,
    "tie": 0.5,
    "tie (bothbad)": 0.5,
    "tie (inconsistent)": 0.5,
    "both_bad": 0.5,
    "bothbad": 0.5,
}


def battle(row: Row, messages: int | None = None) -> dict[str, Any]:
    """Return the comparison of two conversations, of their first ``messages`` or of all."""
    preference = choice(row, "winner", WINNERS)
    sides = [turns(row[name], name)[:messages] for name in ("conversation_a", "conversation_b")]
    if preference < 0.5:
        sides = sides[::-1]
    pair: dict[str, Any] = {"chosen": sides[0], "rejected": sides[1]}
    return {**pair, "preference": 0.5} if preference == 0.5 else pair


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    return [battle(row)]


OPTIONAL = ("question_id", "id", "model_a", "model_b", "judge", "turn")

SCHEMA = Schema(
    __doc__,
    {"winner": "", "conversation_a": "", "conversation_b": ""},
    convert,
    (
        *OPTIONAL,
        "language",
        "tstamp",
        "timestamp",
        "anony",
        "evaluation_session_id",
        "evaluation_order",
        "full_conversation",
        "conv_metadata",
        "is_code",
        "num_tokens",
    ),
)

"""MT-bench judgments: two conversations, judged after the first or the second turn.

Published: ``lmsys/mt_bench_human_judgments``.

Label: ``winner`` is ``model_a`` or ``model_b``. Conversations are cut after the turn that was
judged (``turn``). Judgments of the second turn are invalid rows: each model answered its own
first turn.

Ratings: none.

Ties and strengths: ``tie`` and ``tie (inconsistent)`` are ties (``preference`` 0.5).
"""

from typing import Any

from vrm_pyro.data.schemas.arena import OPTIONAL, battle
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import needed_number


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison of the judged turn."""
    return [{**battle(row, 2 * int(needed_number(row, "turn"))), "source": row["judge"]}]


SCHEMA = Schema(
    __doc__,
    {
        **dict.fromkeys(("question_id", "model_a", "model_b", "winner", "judge", "turn"), ""),
        **dict.fromkeys(("conversation_a", "conversation_b"), ""),
    },
    convert,
    OPTIONAL,
)

"""axolotl: messages, and two last messages.

Published: axolotl's ``chat_template.default`` for DPO.

Label: ``chosen`` is preferred; both are one message.

Ratings: none.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import turns


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    pair = {name: turns(row[name], name) for name in ("chosen", "rejected")}
    return [{"prompt": turns(row["messages"], "messages"), "system": row.get("system"), **pair}]


SCHEMA = Schema(
    __doc__,
    {"messages": "list:messages", "chosen": "object", "rejected": "object"},
    convert,
    ("system", "tools"),
)

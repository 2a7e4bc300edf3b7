"""ms-swift: a conversation with the preferred answer, and the rejected one.

Published: RLHF data of ms-swift.

Label: the last message of ``messages`` is preferred over ``rejected_response``.

Ratings: none.

Ties and strengths: ``margin`` is kept as the margin of the row, which the likelihood ``RaoKupper``
uses.
"""

from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import turns


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    messages = turns(row["messages"], "messages")
    if not messages or messages[-1].get("role") != "assistant":
        raise RowProblem(
            "bad messages", '"messages" must end with the preferred answer of the assistant.'
        )
    pair = {"prompt": messages[:-1], "system": row.get("system"), "chosen": messages[-1:]}
    return [{**pair, "rejected": row["rejected_response"]}]


SCHEMA = Schema(
    __doc__,
    {"messages": "list:messages", "rejected_response": "text"},
    convert,
    ("system", "tools", "margin"),
)

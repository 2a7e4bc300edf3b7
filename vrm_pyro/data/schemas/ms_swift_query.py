"""ms-swift, older form: a query, the preferred response and the rejected one.

Published: RLHF data of ms-swift 2.

Label: ``response`` is preferred over ``rejected_response``. The pairs of ``history`` come before
the query, ``system`` before all.

Ratings: none.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.schemas.llamafactory_alpaca import alpaca_prompt
from vrm_pyro.data.schemas.schema import Row, Schema


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    prompt = alpaca_prompt({**row, "instruction": row["query"], "input": None})
    return [{**prompt, "chosen": row["response"], "rejected": row["rejected_response"]}]


SCHEMA = Schema(
    __doc__,
    {"query": "text", "response": "text", "rejected_response": "text"},
    convert,
    ("system", "history"),
)

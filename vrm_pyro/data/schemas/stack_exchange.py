"""Stack Exchange answers in pairs.

Published: ``lvwerra/stack-exchange-paired``.

Label: ``response_j`` has more votes and is preferred over ``response_k``.

Ratings: none.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.schemas.rows import comparison
from vrm_pyro.data.schemas.schema import Row, Schema


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    return [comparison(row["question"], row["response_j"], row["response_k"], 1.0)]


SCHEMA = Schema(
    __doc__,
    {"question": "text", "response_j": "text", "response_k": "text"},
    convert,
    ("qid", "date", "metadata"),
)

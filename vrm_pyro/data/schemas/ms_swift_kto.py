"""ms-swift for KTO: a conversation, its last answer good or bad.

Published: KTO data of ms-swift.

Label: none; good or bad is a rating of one response.

Ratings: ``label`` as the objective ``desirable``, 1 or 0; use the rating likelihood
``Bernoulli``.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.schemas.kto import desirable
from vrm_pyro.data.schemas.rows import rated
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import turns


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the last answer with its rating."""
    found = turns(row["messages"], "messages")
    return [rated(found[:-1], found[-1:], desirable(row, "label"), system=row.get("system"))]


SCHEMA = Schema(
    __doc__, {"messages": "list:messages", "label": "bool"}, convert, ("system", "tools")
)

"""ms-swift: two whole conversations.

Published: RLHF data of ms-swift with ``rejected_messages``.

Label: the last message of ``messages`` is preferred over that of ``rejected_messages``. The shared
turns are the prompt; conversations that part in an earlier turn are invalid rows.

Ratings: none.

Ties and strengths: ``margin`` is kept as the margin of the row, which the likelihood ``RaoKupper``
uses.
"""

from typing import Any

from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import turns


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    names = {"chosen": "messages", "rejected": "rejected_messages"}
    return [{side: turns(row[name], name) for side, name in names.items()}]


SCHEMA = Schema(
    __doc__,
    {"messages": "list:messages", "rejected_messages": "list:messages"},
    convert,
    ("system", "tools", "margin"),
)

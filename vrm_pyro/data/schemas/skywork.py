"""Skywork: two conversations with the same beginning.

Published: ``Skywork/Skywork-Reward-Preference-80K-v0.1`` and ``-v0.2``.

Label: ``chosen`` is preferred. The shared turns are the prompt.

Ratings: none.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.schemas.schema import Row, Schema


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    return [{name: row[name] for name in ("chosen", "rejected")}]


SCHEMA = Schema(
    __doc__,
    {"chosen": "list:messages", "rejected": "list:messages", "source": "text"},
    convert,
    only=True,
)

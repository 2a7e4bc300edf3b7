"""RM-Bench: each side in three styles, from plain to long with formatting.

Published: ``THU-KEG/RM-Bench``.

Label: each text in ``chosen`` is preferred over each one in ``rejected``, nine comparisons that
together weigh five. The styles are not told apart.

Ratings: none.

Ties and strengths: none. ``domain`` becomes the subset.
"""

from typing import Any

from vrm_pyro.data.schemas.rewardbench2 import all_pairs
from vrm_pyro.data.schemas.schema import Row, Schema


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparisons."""
    return all_pairs(row, subset=row["domain"])


SCHEMA = Schema(
    __doc__,
    {"prompt": "", "chosen": "list:texts", "rejected": "list:texts", "domain": "text"},
    convert,
    ("id",),
)

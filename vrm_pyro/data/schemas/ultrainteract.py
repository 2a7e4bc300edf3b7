"""UltraInteract pairs: a trajectory of turns, and two continuations.

Published: ``openbmb/UltraInteract_pair``.

Label: ``chosen`` is preferred.

Ratings: none.

Ties and strengths: none. ``task`` becomes the subset.
"""

from typing import Any

from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import turns


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    pair = {"prompt": turns(row["trajectory"], "trajectory"), "subset": row.get("task")}
    return [{**pair, "chosen": row["chosen"], "rejected": row["rejected"]}]


SCHEMA = Schema(
    __doc__,
    {"trajectory": "", "chosen": "text", "rejected": "text"},
    convert,
    ("task", "dataset", "id", "parent_id"),
)

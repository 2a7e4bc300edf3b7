"""RewardBench: a prompt, the better and the worse answer, by subset.

Published: ``allenai/reward-bench``.

Label: ``chosen`` is preferred.

Ratings: none.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.schemas.schema import Row, Schema


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    return [{name: row[name] for name in ("prompt", "chosen", "rejected")}]


SCHEMA = Schema(
    __doc__,
    {
        **dict.fromkeys(("prompt", "chosen", "rejected"), "text|list:messages"),
        **dict.fromkeys(("chosen_model", "rejected_model", "subset", "id"), ""),
    },
    convert,
    only=True,
)

"""RewardBench 2: lists of right and of wrong answers.

Published: ``allenai/reward-bench-2``.

Label: each answer in ``chosen`` is preferred over each one in ``rejected``; together these
comparisons weigh one less than there are answers.

Ratings: none.

Ties and strengths: answers in one list are not compared, so the subset Ties is read without its
ties.
"""

from itertools import product
from typing import Any

from vrm_pyro.data.schemas.rows import comparison
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import items


def all_pairs(row: Row, **more: Any) -> list[dict[str, Any]]:
    """Return each chosen answer against each rejected one."""
    chosen, rejected = items(row["chosen"], "chosen"), items(row["rejected"], "rejected")
    pairs = list(product(chosen, rejected))
    weight = (len(chosen) + len(rejected) - 1) / max(len(pairs), 1)
    if weight != 1:
        more["weight"] = weight
    return [comparison(row["prompt"], *pair, 1.0, **more) for pair in pairs]


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparisons."""
    return all_pairs(row)


SCHEMA = Schema(
    __doc__,
    {"prompt": "", "chosen": "list:texts", "rejected": "list:texts", "num_correct": ""},
    convert,
    ("id", "subset", "num_incorrect", "num_rejected", "total_completions", "models"),
)

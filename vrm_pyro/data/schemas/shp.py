"""Stanford Human Preferences: two comments on a post, by their votes.

Published: ``stanfordnlp/SHP``, ``stanfordnlp/SHP-2``.

Label: ``labels`` 1 means that ``human_ref_A`` is preferred, 0 that ``human_ref_B`` is.

Ratings: none; ``score_A`` and ``score_B`` count votes, which grow with the age of a comment.

Ties and strengths: none; ``score_ratio`` is not used. ``domain`` becomes the subset, without the
name of its split.
"""

from typing import Any

from vrm_pyro.data.schemas.rows import comparison
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import choice


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    preference = choice(row, "labels", {"1": 1.0, "0": 0.0})
    domain = row.get("domain")
    if isinstance(domain, str):
        domain = domain.removesuffix("_train").removesuffix("_validation").removesuffix("_test")
    pair = (row["human_ref_A"], row["human_ref_B"])
    return [comparison(row["history"], *pair, preference, subset=domain)]


SCHEMA = Schema(
    __doc__,
    {"history": "text", "human_ref_A": "", "human_ref_B": "", "labels": ""},
    convert,
    (
        "post_id",
        "domain",
        "upvote_ratio",
        "c_root_id_A",
        "c_root_id_B",
        "created_at_utc_A",
        "created_at_utc_B",
        "score_A",
        "score_B",
        "seconds_difference",
        "score_ratio",
    ),
)

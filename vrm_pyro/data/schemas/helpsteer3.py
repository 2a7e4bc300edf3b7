"""HelpSteer3: a conversation, two responses and a signed strength.

Published: ``nvidia/HelpSteer3``, subset ``preference``.

Label: ``overall_preference`` from -3 (``response1`` is much better) to 3 (``response2`` is).

Ratings: none.

Ties and strengths: strength s becomes ``preference`` (3 - s) / 6 of ``response1``: 0 is a tie.
Under the likelihood ``Graded`` with 7 levels this is the grade; under another one it is a soft
label. ``domain`` becomes the subset.
"""

from typing import Any

from vrm_pyro.data.schemas.rows import comparison, graded
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import needed_number, turns


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    preference = graded(needed_number(row, "overall_preference"), 3)
    context = row["context"]
    prompt = context if isinstance(context, str) else turns(context, "context")
    pair = (row["response1"], row["response2"])
    return [comparison(prompt, *pair, preference, subset=row.get("domain"))]


SCHEMA = Schema(
    __doc__,
    {"context": "", "response1": "", "response2": "", "overall_preference": ""},
    convert,
    ("domain", "language", "individual_preference"),
)

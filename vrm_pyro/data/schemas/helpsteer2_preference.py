"""HelpSteer2-Preference: two responses and a signed strength.

Published: ``nvidia/HelpSteer2``, folder ``preference``.

Label: ``preference_strength`` from -3 (``response_1`` is much better) to 3 (``response_2`` is).

Ratings: none; those of the same responses are in ``helpsteer2``.

Ties and strengths: strength s becomes ``preference`` (3 - s) / 6 of ``response_1``: 0 is a tie,
1 slightly, 3 much. Under the likelihood ``Graded`` with 7 levels this is the grade; under another
one it is a soft label.
"""

from typing import Any

from vrm_pyro.data.schemas.helpsteer2 import prompt_messages
from vrm_pyro.data.schemas.rows import comparison, graded
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import needed_number


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    preference = graded(needed_number(row, "preference_strength"), 3)
    prompt = prompt_messages(row["prompt"])
    return [comparison(prompt, row["response_1"], row["response_2"], preference)]


SCHEMA = Schema(
    __doc__,
    {"prompt": "", "response_1": "", "response_2": "", "preference_strength": ""},
    convert,
    (
        "split",
        "preference_statement",
        "preference_elaboration",
        "three_most_similar_preferences",
        "all_preferences_unprocessed",
    ),
)

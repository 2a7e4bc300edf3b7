"""KTO: single completions, good or bad.

Published: TRL's unpaired preferences (``trl-lib/kto-mix-14k``),
``argilla/distilabel-intel-orca-kto``.

Label: none; good or bad is a rating of one response.

Ratings: ``label`` as the objective ``desirable``, 1 or 0; use the rating likelihood
``Bernoulli``.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.schemas.rows import rated
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import truth


def desirable(row: Row, column: str) -> dict[str, float | None]:
    """Return the rating of a response that is good or bad."""
    good = truth(row.get(column), column)
    if good is None:
        raise RowProblem("no label", f'"{column}" is missing, but says whether it is good.')
    return {"desirable": float(good)}


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the completion with its rating."""
    ratings = desirable(row, "label")
    return [rated(row["prompt"], row["completion"], ratings, system=row.get("system"))]


SCHEMA = Schema(
    __doc__,
    {"prompt": "", "completion": "", "label": ""},
    convert,
    ("system", "rating", "status", "in_gsm8k_train"),
)

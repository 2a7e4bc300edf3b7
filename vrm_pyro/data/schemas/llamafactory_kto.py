"""LLaMA-Factory for KTO: one answer, good or bad, in the alpaca or the ShareGPT format.

Published: KTO data of LLaMA-Factory.

Label: none; good or bad is a rating of one response.

Ratings: ``kto_tag`` as the objective ``desirable``, 1 or 0; use the rating likelihood
``Bernoulli``.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.schemas.kto import desirable
from vrm_pyro.data.schemas.llamafactory_alpaca import alpaca_prompt
from vrm_pyro.data.schemas.rows import rated
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import turns


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the answer with its rating."""
    ratings = desirable(row, "kto_tag")
    if "instruction" in row:
        prompt = alpaca_prompt(row)
        return [rated(prompt["prompt"], row.get("output"), ratings, system=prompt["system"])]
    for name in ("conversations", "messages"):
        if row.get(name) is not None:
            found = turns(row[name], name)
            return [rated(found[:-1], found[-1:], ratings, system=row.get("system"))]
    raise RowProblem("missing column", 'there is no "instruction", "conversations" or "messages".')


SCHEMA = Schema(
    __doc__,
    {"kto_tag": ""},
    convert,
    ("instruction", "input", "output", "system", "history", "conversations", "messages", "tools"),
)

"""AlpacaFarm: an instruction with an input, two outputs and the number of the better one.

Published: ``tatsu-lab/alpaca_farm``, the human and the simulated preferences, and the annotations
of ``alpaca_eval``.

Label: ``preference`` 1 means ``output_1``, 2 means ``output_2``. The prompt is ``instruction``
and, below it, ``input``.

Ratings: none.

Ties and strengths: a number between 1 and 2, as weighted annotators give it, is the soft label
2 - ``preference`` of ``output_1``; 0 and 1.5 are ties.
"""

from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.schemas.llamafactory_alpaca import alpaca_prompt
from vrm_pyro.data.schemas.rows import comparison
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import needed_number


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    given = needed_number(row, "preference")
    if given != 0 and not 1 <= given <= 2:
        raise RowProblem("no label", f'"preference" is {given:g}, but must be from 1 to 2, or 0.')
    prompt = alpaca_prompt(row)
    pair = (row["output_1"], row["output_2"])
    preference = 0.5 if given == 0 else 2 - given
    return [comparison(prompt["prompt"], *pair, preference)]


SCHEMA = Schema(
    __doc__,
    {"instruction": "text", "output_1": "", "output_2": "", "preference": ""},
    convert,
    (
        "input",
        "annotator",
        "generator_1",
        "generator_2",
        "raw_preference",
        "time_per_example",
        "price_per_example",
        "annotator_index",
    ),
)

"""Chatbot Arena, 55k battles: texts of all turns as JSON lists, the winner in three columns.

Published: ``lmsys/lmsys-arena-human-preference-55k`` and its Kaggle competition.

Label: ``winner_model_a`` or ``winner_model_b`` is 1. Battles of one turn are comparisons; in
longer ones the two models answered their own earlier turns, which is an invalid row.

Ratings: none.

Ties and strengths: ``winner_tie`` is a tie (``preference`` 0.5); "both bad" is not told apart.
"""

from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.schemas.rows import comparison
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import items, truth

_WINNERS = {"winner_model_a": 1.0, "winner_model_b": 0.0, "winner_tie": 0.5}


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    won = [preference for name, preference in _WINNERS.items() if truth(row[name], name)]
    if len(won) != 1:
        raise RowProblem("no label", f"{len(won)} of {', '.join(_WINNERS)} are 1; one must be.")
    sides = {name: items(row[name], name) for name in ("prompt", "response_a", "response_b")}
    counts = {len(texts) for texts in sides.values()}
    if counts != {1}:
        raise RowProblem(
            "part early",
            f"the battle has {max(counts)} turns, in which each model answered its own earlier "
            "turns, so that there is no prompt both share.",
        )
    pair = (sides["response_a"][0], sides["response_b"][0])
    return [comparison(sides["prompt"][0], *pair, won[0])]


SCHEMA = Schema(
    __doc__,
    {"prompt": "", "response_a": "", "response_b": "", **dict.fromkeys(_WINNERS, "")},
    convert,
    ("id", "model_a", "model_b"),
)

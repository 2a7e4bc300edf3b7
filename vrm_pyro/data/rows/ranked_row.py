"""A row that ranks several responses to one prompt."""

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.rows.conversation import Message, check_response, kind_of
from vrm_pyro.data.rows.prompts import row_prompt
from vrm_pyro.data.rows.values import EXPECTED, labels_of, number_of, rating_object, required

RANKING_COLUMNS = ("prompt", "responses", "ranks", "ratings", "weight")


@dataclass(frozen=True)
class RankedResponses:
    """Several responses to one prompt, ranked.

    Args:
        prompt: Chat messages, the last not from the assistant.
        responses: Texts, the best first; at least two.
        ratings: Finite ratings of each response by objective, missing ones absent.
        weight: Power on the likelihood of the ranking, >= 0.
        labels: ``id``, ``subset`` and ``source``, None where absent.
    """

    prompt: list[Message]
    responses: list[str]
    ratings: list[dict[str, float]]
    weight: float
    labels: dict[str, str | None]

    def without_repeats(self) -> "RankedResponses":
        """Return the ranking with each text only at its best rank."""
        places = list({text: n for n, text in reversed(list(enumerate(self.responses)))}.values())
        return replace(
            self,
            responses=[self.responses[n] for n in sorted(places)],
            ratings=[self.ratings[n] for n in sorted(places)],
        )


@dataclass(frozen=True)
class SeveralResponses:
    """Several responses to one prompt without a ranking: texts to be scored.

    Args:
        prompt: Chat messages, the last not from the assistant.
        responses: Texts in the order of the row, at least one.
        labels: ``id``, ``subset`` and ``source``, None where absent.
        ratings: Finite ratings of each response by objective, missing ones absent.
    """

    prompt: list[Message]
    responses: list[str]
    labels: dict[str, str | None]
    ratings: list[dict[str, float]]


def parse_several(row: Mapping[str, Any]) -> SeveralResponses:
    """Check a row with ``responses`` that nothing ranks.

    Raises:
        RowProblem: With the reason and the fix, if the row is not usable.
    """
    given = _list(row, "responses")
    if not given:
        raise RowProblem("empty text", '"responses" is an empty list; give at least one text.')
    ratings = [None] * len(given)
    if row.get("ratings") is not None:
        ratings = _list(row, "ratings", len(given))
    return SeveralResponses(
        prompt=row_prompt(required(row, "prompt"), row),
        responses=[check_response(text, f"responses[{n}]") for n, text in enumerate(given)],
        labels=labels_of(row),
        ratings=[rating_object(held, f"ratings[{n}]") for n, held in enumerate(ratings)],
    )


def parse_ranking(row: Mapping[str, Any]) -> RankedResponses:
    """Check a row with ``responses`` and ``ranks``.

    Raises:
        RowProblem: With the reason and the fix, if the row is not usable.
    """
    for column in ("chosen", "rejected", "response", "preference", "margin"):
        if row.get(column) is not None:
            raise RowProblem(
                "unclear columns", f'the row has "{column}" beside "responses". {EXPECTED}'
            )
    given = _list(row, "responses")
    if len(given) < 2:
        raise RowProblem(
            "bad ranking", f'"responses" has {len(given)} items, but a ranking needs two or more.'
        )
    order = _order(_list(row, "ranks", len(given)))
    ratings = [None] * len(given)
    if row.get("ratings") is not None:
        ratings = _list(row, "ratings", len(given))
    return RankedResponses(
        prompt=row_prompt(required(row, "prompt"), row),
        responses=[check_response(given[n], f"responses[{n}]") for n in order],
        ratings=[rating_object(ratings[n], f"ratings[{n}]") for n in order],
        weight=number_of(row, "weight", math.inf, "a finite number >= 0"),
        labels=labels_of(row),
    )


def _list(row: Mapping[str, Any], column: str, size: int | None = None) -> list[Any]:
    """Return a column that is a list, or JSON text of a list, with one item per response."""
    value = required(row, column)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):  # reported below, as text
            value = json.loads(value)
    if not isinstance(value, list):
        raise RowProblem(
            "bad ranking",
            f'"{column}" is {kind_of(value)}, but must be a list, one item for each response.',
        )
    if size is not None and len(value) != size:
        raise RowProblem(
            "bad ranking",
            f'"{column}" has {len(value)} items for {size} responses; give one for each.',
        )
    return value


def _order(ranks: list[Any]) -> list[int]:
    """Return the positions of the responses from best to worst."""
    wanted = list(range(1, len(ranks) + 1))
    for n, rank in enumerate(ranks):
        if isinstance(rank, bool) or not isinstance(rank, int | float):
            raise RowProblem(
                "bad ranking",
                f'"ranks[{n}]" is {kind_of(rank)}, but must be a number, 1 the best.',
            )
        if ranks.count(rank) > 1:
            raise RowProblem(
                "tie in a ranking",
                f'"ranks" gives {rank} more than once, but a ranking has no ties. Break the tie, '
                'leave out a response, or write pairs with "preference" 0.5.',
            )
    if sorted(ranks) != wanted:
        raise RowProblem(
            "bad ranking",
            f'"ranks" is {str(ranks):.60}, but must hold each of 1 to {len(ranks)} once, 1 the '
            "best.",
        )
    return sorted(range(len(ranks)), key=ranks.__getitem__)

"""Write the rows that a published row becomes."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from vrm_pyro.data.schemas.values import number

Ratings = Mapping[str, float | None] | None


def comparison(
    prompt: Any,
    first: Any,
    second: Any,
    preference: float,
    ratings: tuple[Ratings, Ratings] = (None, None),
    **more: Any,
) -> dict[str, Any]:
    """Return a comparison with the preferred response as ``chosen``; a tie keeps the order.

    >>> comparison("Sky?", "Green.", "Blue.", 0.2)["chosen"]
    'Blue.'

    Args:
        prompt: Text or messages.
        first: A response.
        second: The other one.
        preference: Probability that the first is preferred.
        ratings: Ratings of the first and of the second.
        more: Further columns of the row; those that are None are left out.
    """
    if preference < 0.5:
        first, second, preference, ratings = second, first, 1 - preference, ratings[::-1]
    row = {"prompt": prompt, "chosen": first, "rejected": second}
    if preference != 1:
        row["preference"] = preference
    row["chosen_ratings"], row["rejected_ratings"] = ratings
    return _without_null({**row, **more})


def rated(prompt: Any, response: Any, ratings: Ratings, **more: Any) -> dict[str, Any]:
    """Return a single response with its ratings."""
    return _without_null({"prompt": prompt, "response": response, "ratings": ratings, **more})


def graded(strength: float, steps: int) -> float:
    """Return the probability that the first response wins, from a signed strength.

    The strength runs over the integers from -``steps`` (the first is much better) to ``steps``.
    The result is the soft label for a binary likelihood; under a ``Graded`` one with
    2 ``steps`` + 1 grades it is the grade itself, because grade l of L is written l / (L - 1).

    >>> graded(-3, 3), graded(0, 3), graded(1, 3)
    (1.0, 0.5, 0.3333333333333333)
    """
    return (steps - strength) / (2 * steps)


def by_score(
    prompt: Any,
    responses: Sequence[Any],
    scores: Sequence[float | None],
    ratings: Sequence[Ratings] | None = None,
    **more: Any,
) -> list[dict[str, Any]]:
    """Return all pairs of responses whose scores differ, and the others as single responses.

    The pairs of n responses weigh n - 1 together, the number of comparisons that determine an
    order: with weight 1 each they would count the row up to n / 2 times. Equal scores make no
    pair.
    """
    given = list(ratings) if ratings is not None else [None] * len(responses)
    scored = [n for n, score in enumerate(scores) if score is not None]
    pairs = [(i, j) for i, j in combinations(scored, 2) if scores[i] != scores[j]]
    used = {n for pair in pairs for n in pair}
    weight = (len(used) - 1) / len(pairs) if pairs else 1.0
    if weight != 1:
        more = {**more, "weight": weight}
    rows = [
        comparison(
            prompt,
            responses[i],
            responses[j],
            float(scores[i] > scores[j]),  # type: ignore[operator]
            (given[i], given[j]),
            **more,
        )
        for i, j in pairs
    ]
    single = {name: value for name, value in more.items() if name != "weight"}
    return rows + [
        rated(prompt, responses[n], given[n], **single)
        for n in range(len(responses))
        if n not in used
    ]


def ranked(
    prompt: Any, responses: Sequence[Any], ranks: Sequence[float], **more: Any
) -> list[dict[str, Any]]:
    """Return a ranking, 1 the best; with tied ranks, the pairs that are not tied."""
    if len(responses) < 2 or len(set(ranks)) < len(ranks):
        return by_score(prompt, responses, [-rank for rank in ranks], **more)
    order = sorted(ranks)
    places = [order.index(rank) + 1 for rank in ranks]
    row = {"prompt": prompt, "responses": list(responses), "ranks": places, **more}
    return [_without_null(row)]


def rated_pair(
    row: Mapping[str, Any], columns: tuple[str, str], objective: str, tie: bool = True
) -> list[dict[str, Any]]:
    """Return a comparison whose two responses have a rating in a column each.

    Args:
        row: With ``prompt`` or none, ``chosen`` and ``rejected``.
        columns: Rating of ``chosen`` and of ``rejected``.
        objective: Name of the rating.
        tie: Whether equal ratings make a tie, because the label was made from them.
    """
    first, second = (number(row.get(column), column) for column in columns)
    tied = tie and first is not None and first == second
    sides = ({objective: first}, {objective: second})
    kept = {name: row[name] for name in ("prompt", "chosen", "rejected") if name in row}
    if tied:
        kept["preference"] = 0.5
    return [_without_null({**kept, "chosen_ratings": sides[0], "rejected_ratings": sides[1]})]


def _without_null(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}

"""Summarize from feedback: two summaries of a post or an article.

Published: ``openai/summarize_from_feedback``, subset ``comparisons``.

Label: ``choice`` is the index of the preferred summary. The prompt is the post with its subreddit
and title, or the article, and "TL;DR:".

Ratings: none; for those, see ``summarize_axis``.

Ties and strengths: none; ``extra.confidence`` is not used. ``worker`` becomes the source.
"""

from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.schemas.rows import comparison
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import choice, field, items


def prompt_of(row: Row) -> str:
    """Return what was to be summarised, with its title, and the request."""
    named = {"SUBREDDIT": "subreddit", "TITLE": "title", "POST": "post", "ARTICLE": "article"}
    found = {title: field(row, f"info.{name}") for title, name in named.items()}
    if not (found["POST"] or found["ARTICLE"]):
        raise RowProblem("missing column", '"info" has neither "post" nor "article".')
    parts = [f"{title}: {text}" for title, text in found.items() if text]
    return "\n\n".join([*parts, "TL;DR:"])


def stripped(text: object) -> object:
    """Return a summary without the blank that it begins with."""
    return text.strip() if isinstance(text, str) else text


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    if len(items(row["summaries"], "summaries")) != 2:
        raise RowProblem("wrong type", '"summaries" must hold two summaries.')
    first, second = (stripped(field(row, f"summaries.{n}.text")) for n in (0, 1))
    preference = choice(row, "choice", {"0": 1.0, "1": 0.0})
    return [comparison(prompt_of(row), first, second, preference, source=row.get("worker"))]


SCHEMA = Schema(
    __doc__,
    {"info": "object", "summaries": "list", "choice": ""},
    convert,
    ("worker", "batch", "split", "extra"),
)

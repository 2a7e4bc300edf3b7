"""WebGPT comparisons: two answers to a question, and a preference score each.

Published: ``openai/webgpt_comparisons``.

Label: the answer with the positive score is preferred, as its publisher reads it.

Ratings: none.

Ties and strengths: a score of 0 is a tie (``preference`` 0.5); the size of a score is not used,
as by its publisher. The quotes are not part of the prompt.
"""

from typing import Any

from vrm_pyro.data.schemas.rows import comparison
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import field, needed_number


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    first, second = needed_number(row, "score_0"), needed_number(row, "score_1")
    preference = 0.5 if first == second else float(first > second)
    question = row["question"]
    prompt = question if isinstance(question, str) else field(row, "question.full_text")
    source = None if isinstance(question, str) else field(row, "question.dataset")
    return [comparison(prompt, row["answer_0"], row["answer_1"], preference, source=source)]


SCHEMA = Schema(
    __doc__,
    dict.fromkeys(("question", "answer_0", "answer_1", "score_0", "score_1"), ""),
    convert,
    ("quotes_0", "quotes_1", "tokens_0", "tokens_1"),
)

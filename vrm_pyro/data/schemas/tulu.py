"""Tulu 3 preference mixtures: a prompt, and two conversations that begin with it.

Published: ``allenai/llama-3.1-tulu-3-8b-preference-mixture`` and ``-70b-``; the mixture for 405B
has ratings and is ``argilla_ratings``.

Label: ``chosen`` is preferred. The shared turns are the prompt.

Ratings: none.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.schemas.schema import Row, Schema


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison."""
    return [{name: row[name] for name in ("prompt", "chosen", "rejected")}]


SCHEMA = Schema(
    __doc__,
    {
        "id": "",
        "prompt": "text",
        "chosen": "list:messages",
        "rejected": "list:messages",
        "source": "text",
    },
    convert,
    only=True,
)

r"""HelpSteer and HelpSteer2: single responses with five ratings.

Published: ``nvidia/HelpSteer``, ``nvidia/HelpSteer2``.

Label: none. Consecutive rows share a prompt, but no comparison is made of them; for labels, see
``helpsteer2_preference``. A prompt of several turns, written with ``<extra_id_1>Assistant`` and
``<extra_id_1>User``, becomes its messages.

Ratings: ``helpfulness``, ``correctness``, ``coherence``, ``complexity`` and ``verbosity``, 0 to
4, as objectives of these names. More complexity or verbosity is not better.

Ties and strengths: none.
"""

import re
from typing import Any

from vrm_pyro.data.schemas.rows import rated
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import ratings

OBJECTIVES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_TURN = re.compile(r"\s*<extra_id_1>(User|Assistant)\n")
_ROLES = {"User": "user", "Assistant": "assistant"}


def prompt_messages(prompt: Any) -> Any:
    r"""Return the turns of a prompt with markers of turns; another prompt as it is.

    >>> turns = prompt_messages("Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\nBye")
    >>> [turn["role"] for turn in turns]
    ['user', 'assistant', 'user']
    """
    if not isinstance(prompt, str) or not _TURN.search(prompt):
        return prompt
    parts = ["User", *_TURN.split(prompt)]
    return [
        {"role": _ROLES[name], "content": text}
        for name, text in zip(parts[::2], parts[1::2], strict=True)
        if text.strip()
    ]


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the response with its ratings."""
    found = ratings(row, dict(zip(OBJECTIVES, OBJECTIVES, strict=True)))
    return [rated(prompt_messages(row["prompt"]), row["response"], found)]


SCHEMA = Schema(__doc__, {"prompt": "", "response": "", **dict.fromkeys(OBJECTIVES, "")}, convert)

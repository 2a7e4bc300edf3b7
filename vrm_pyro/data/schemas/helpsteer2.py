r"""HelpSteer and HelpSteer2: single responses with five ratings.

Published: ``nvidia/HelpSteer``, ``nvidia/HelpSteer2``.

Label: none. Consecutive rows share a prompt, but no comparison is made of them; for labels, see
``helpsteer2_preference``. A prompt of several turns, written with ``<extra_id_1>Assistant`` and
``<extra_id_1>User``, becomes its messages.

Ratings: ``helpfulness``, ``correctness``, ``coherence``, ``complexity`` and ``verbosity``, 0 to
4, as objectives of these names; a list of several annotators (folder ``disagreements``) as its
mean. More complexity or verbosity is not better.

Ties and strengths: none.
"""

import re
from typing import Any

from vrm_pyro.data.schemas.rows import rated
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import number

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
    found = {name: _mean(row[name], name) for name in OBJECTIVES}
    return [rated(prompt_messages(row["prompt"]), row["response"], found)]


def _mean(value: Any, name: str) -> float | None:
    if not isinstance(value, list):
        return number(value, name)
    given = [one for one in (number(item, name) for item in value) if one is not None]
    return sum(given) / len(given) if given else None


SCHEMA = Schema(__doc__, {"prompt": "", "response": "", **dict.fromkeys(OBJECTIVES, "")}, convert)

"""Prompts as chat messages and as text, and the prompt of each response."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.rows.conversation import turn_text
from vrm_pyro.errors import InputError

Messages = Sequence[Mapping[str, Any]]
"""A conversation: each message has ``role`` and ``content`` as text."""


def prompt_text(prompt: str | Messages) -> str:
    r"""Return a prompt as text: a single user message as it is, several with role names.

    >>> prompt_text("2 + 2?")
    '2 + 2?'
    >>> prompt_text([{"role": "system", "content": "Be brief."}, *as_messages("2 + 2?")])
    'system: Be brief.\nuser: 2 + 2?'
    """
    messages = as_messages(prompt)
    if len(messages) == 1 and messages[0]["role"] == "user":
        return str(messages[0]["content"])
    return with_roles(messages)


def with_roles(messages: Messages) -> str:
    """Return messages as text, each after the name of its role."""
    return "\n".join(f"{m['role']}: {turn_text(m)}" for m in messages)


def as_messages(prompt: str | Messages) -> Messages:
    """Return a prompt as chat messages; a text becomes one user message.

    >>> as_messages("2 + 2?")
    [{'role': 'user', 'content': '2 + 2?'}]

    Raises:
        InputError: If there is no message, or one lacks ``role`` or ``content`` as text.
    """
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    for message in prompt:
        if not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise InputError(
                f"message {dict(message)!r}: each message needs a text 'role' and a text "
                "'content', such as {'role': 'user', 'content': 'Hello'}."
            )
    if not prompt:
        raise InputError("a prompt has no message; give a text or at least one user message.")
    return prompt


def response_owners(
    num_prompts: int,
    num_responses: int,
    response_prompt: Sequence[int] | NDArray[np.int64] | None,
) -> NDArray[np.int64]:
    """Return the prompt of each response, shape (R,); response i belongs to prompt i by default.

    >>> response_owners(2, 2, None).tolist(), response_owners(2, 3, [0, 0, 1]).tolist()
    ([0, 1], [0, 0, 1])

    Raises:
        InputError: If the numbers differ.
    """
    owner = np.arange(num_prompts) if response_prompt is None else np.asarray(response_prompt)
    if len(owner) != num_responses:
        raise InputError(
            f"{num_responses} responses came with {len(owner)} prompt indices; each "
            "response needs exactly one."
        )
    return owner

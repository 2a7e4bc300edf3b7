"""Prompts and responses as chat messages and as text, and the prompt of each response."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.tools import TOOLS
from vrm_pyro.data.turns import read_answer, read_messages, turn_text
from vrm_pyro.errors import InputError

Messages = Sequence[Mapping[str, Any]]
"""A conversation as :func:`as_messages` returns it: each message has ``role`` and ``content``."""


def prompt_text(prompt: str | Messages) -> str:
    r"""Return a prompt as text: a single user message as it is, several with role names.

    >>> prompt_text("2 + 2?")
    '2 + 2?'
    >>> prompt_text([{"role": "system", "content": "Be brief."}, *as_messages("2 + 2?")])
    'system: Be brief.\nuser: 2 + 2?'
    """
    messages = as_messages(prompt)
    if len(messages) == 1 and messages[0]["role"] == "user" and TOOLS not in messages[0]:
        return str(messages[0]["content"])
    return with_roles(messages)


def with_roles(messages: Messages) -> str:
    """Return messages as text, each after the name of its role; before them the tools as JSON."""
    lines = [f"{m['role']}: {turn_text(m)}" for m in messages]
    tools = messages[0].get(TOOLS)
    if tools:
        lines.insert(0, f"tools: {json.dumps(tools, ensure_ascii=False)}")
    return "\n".join(lines)


def as_messages(prompt: str | Messages, where: str = "prompt") -> Messages:
    """Return a prompt as chat messages in their one form; a text becomes one user message.

    >>> as_messages("2 + 2?")
    [{'role': 'user', 'content': '2 + 2?'}]

    Raises:
        InputError: If there is no message, or one lacks ``role`` or ``content`` as text.
    """
    try:
        return read_messages(prompt, where)
    except RowProblem as problem:
        raise InputError(problem.message) from None


def conversation(
    prompt: str | Messages,
    *,
    tools: Any = None,
    chat_template_kwargs: Any = None,
) -> Messages:
    """Return a prompt with the tools and further variables that its chat template gets.

    >>> conversation("2 + 2?", chat_template_kwargs={"enable_thinking": False})
    [{'role': 'user', 'content': '2 + 2?', 'chat_template_kwargs': {'enable_thinking': False}}]

    Args:
        prompt: Text or messages.
        tools: JSON schemas, or their JSON text.
        chat_template_kwargs: Variables such as ``enable_thinking``.

    Raises:
        InputError: As :func:`as_messages`; or if tools or variables are not usable.
    """
    try:
        return read_messages(prompt, "prompt", tools, chat_template_kwargs)
    except RowProblem as problem:
        raise InputError(problem.message) from None


def as_answer(response: Any, where: str = "response") -> str:
    """Return a response, given as text or as an assistant message, in its one form.

    Raises:
        InputError: If it is neither.
    """
    try:
        return read_answer(response, where)
    except RowProblem as problem:
        raise InputError(problem.message) from None


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

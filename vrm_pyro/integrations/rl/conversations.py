"""Convert completions of RL trainers to the texts that a reward model reads."""

from collections.abc import Mapping, Sequence
from typing import Any

from vrm_pyro.backbone.messages import Messages, as_answer, as_messages
from vrm_pyro.data.turns import REASONING

_NUL = "\0"


def prompt_messages(prompt: str | Sequence[Mapping[str, Any]]) -> Messages:
    """Return a prompt as messages in their one form; plain text is one user message.

    >>> prompt_messages("2 + 2?")
    [{'role': 'user', 'content': '2 + 2?'}]

    Earlier tool calls and their results are kept for the chat template.

    Raises:
        InputError: If a message has no role, or content other than text.
    """
    return as_messages(prompt)


def completion_text(completion: str | Sequence[Mapping[str, Any]]) -> str:
    """Return a completion's text: the text itself, or that of its assistant messages.

    Several assistant messages (a completion with tool calls) are joined by a blank line. Tool
    calls and their results are not read: the reward model was trained on single responses.
    The character NUL, which a policy may sample, is left out: it must not end a training run.

    >>> completion_text([{"role": "assistant", "content": "4" + chr(0)}])
    '4'

    Raises:
        InputError: If a message has no role, or content other than text.
    """
    if isinstance(completion, str):
        return as_answer(completion.replace(_NUL, ""), "completion")
    own = [_without_nul(m) for m in completion if not _of_others(m)]
    turns = as_messages(own, "completion") if own else []
    if len(turns) == 1 and REASONING in turns[0] and "tool_calls" not in turns[0]:
        return as_answer(turns[0], "completion")
    return "\n\n".join(turn["content"] for turn in turns if turn["content"].strip())


def _without_nul(message: Mapping[str, Any]) -> Mapping[str, Any]:
    content = message.get("content") if isinstance(message, Mapping) else None
    return (
        {**message, "content": content.replace(_NUL, "")} if isinstance(content, str) else message
    )


def _of_others(message: Any) -> bool:
    role = message.get("role") if isinstance(message, Mapping) else None
    return isinstance(role, str) and role != "assistant"

"""Convert prompts and completions of RL trainers to the texts that a reward model reads."""

from collections.abc import Mapping, Sequence
from typing import Any

from vrm_pyro.backbone.messages import Messages
from vrm_pyro.data.rows.conversation import tool_parts
from vrm_pyro.errors import InputError


def prompt_messages(prompt: str | Sequence[Mapping[str, Any]]) -> Messages:
    """Return a prompt as messages with role and text; plain text is one user message.

    >>> prompt_messages("2 + 2?")
    [{'role': 'user', 'content': '2 + 2?'}]

    Earlier tool calls and their results are kept for the chat template.

    Raises:
        InputError: If a message has no role, or content other than text.
    """
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [
        {"role": _role(message), "content": message_text(message), **tool_parts(message)}
        for message in prompt
    ]


def completion_text(completion: str | Sequence[Mapping[str, Any]]) -> str:
    """Return a completion's text: the text itself, or that of its assistant messages.

    Several assistant messages (a completion with tool calls) are joined by a blank line. Tool
    calls and their results are not read: the reward model was trained on single responses.

    >>> completion_text([{"role": "assistant", "content": "4"}])
    '4'

    Raises:
        InputError: If a message has no role, or content other than text.
    """
    if isinstance(completion, str):
        return completion
    texts = [message_text(m) for m in completion if _role(m) == "assistant"]
    return "\n\n".join(text for text in texts if text.strip())


def message_text(message: Mapping[str, Any]) -> str:
    """Return the text of a message; a list of text parts is joined, null is empty.

    >>> message_text({"role": "user", "content": [{"type": "text", "text": "Hello"}]})
    'Hello'

    Raises:
        InputError: If the content is something else, such as an image.
    """
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        parts = [p.get("text") if isinstance(p, Mapping) else None for p in content]
        if all(isinstance(part, str) for part in parts):
            return "".join(str(part) for part in parts)
    raise InputError(
        f"message {str(dict(message))[:80]!r}: its content is no text, and a reward model reads "
        "nothing else. Give 'content' as text, or as a list of text parts."
    )


def _role(message: Mapping[str, Any]) -> str:
    role = message.get("role")
    if not isinstance(role, str):
        raise InputError(
            f"message {str(dict(message))[:80]!r}: it has no 'role'; each message needs a text "
            "'role' and a 'content', such as {'role': 'user', 'content': 'Hello'}."
        )
    return role

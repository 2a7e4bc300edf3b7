"""Check the conversations of rows, and extract the implicit prompt that two of them share."""

from collections.abc import Mapping
from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.tools import TEMPLATE_KWARGS, TOOLS
from vrm_pyro.data.turns import REASONING, Message, extras, read_answer, read_messages, turn_text
from vrm_pyro.data.values import kind_of, readable

__all__ = [
    "Message",
    "check_messages",
    "check_prompt",
    "check_response",
    "check_text",
    "extras",
    "kind_of",
    "split_conversations",
    "split_texts",
    "turn_text",
]

ROLES = ("developer", "system", "user", "assistant", "tool")
# Turns whose content may be empty: instructions, results of tools.
_MAY_BE_EMPTY = ("system", "developer", "tool")


def check_text(value: object, column: str) -> str:
    """Return ``value`` if it is usable text.

    Raises:
        RowProblem: If it is not a string, has no visible character, or cannot be encoded.
    """
    if not isinstance(value, str):
        raise RowProblem("wrong type", f'"{column}" is {kind_of(value)}, but must be text.')
    if not value.strip():
        raise RowProblem("empty text", f'"{column}" is empty. Fill it in or remove the row.')
    return readable(value, column)


def check_messages(
    value: list[Any], column: str, tools: object = None, template_kwargs: object = None
) -> list[Message]:
    """Check messages and return them as :func:`vrm_pyro.data.turns.read_messages` does.

    Other keys are dropped: they are not encoded. The content of a turn with tool calls or
    reasoning, of a system turn and of a result of a tool may be empty.

    Raises:
        RowProblem: If the list is empty or a message lacks a known role or a text.
    """
    messages = read_messages(value, column, tools, template_kwargs)
    for index, message in enumerate(messages):
        where = f"{column}[{index}]"
        if message["role"] not in ROLES:
            raise RowProblem(
                "bad messages",
                f'"{where}" has role {message["role"]!r:.40}; use one of {", ".join(ROLES)}.',
            )
        if message["role"] not in _MAY_BE_EMPTY and not (
            "tool_calls" in message or REASONING in message
        ):
            check_text(message["content"], f"{where}.content")
    return messages


def check_prompt(value: object, row: Mapping[str, Any] | None = None) -> list[Message]:
    """Return a prompt, given as text or messages, as messages; text is one user message.

    Args:
        value: The prompt.
        row: The row, which may hold ``tools`` and ``chat_template_kwargs``.

    Raises:
        RowProblem: If it is neither, or ends with an assistant turn.
    """
    tools, template_kwargs = ((row or {}).get(key) for key in (TOOLS, TEMPLATE_KWARGS))
    if isinstance(value, list):
        messages = check_messages(value, "prompt", tools, template_kwargs)
        if messages[-1]["role"] == "assistant":
            raise RowProblem(
                "bad messages",
                '"prompt" ends with an assistant message, but the responses are the '
                "assistant's next turn. End the prompt with the user's message.",
            )
        return messages
    if not isinstance(value, str):
        raise RowProblem(
            "wrong type",
            f'"prompt" is {kind_of(value)}, but must be text or a list of '
            '{"role", "content"} messages.',
        )
    return read_messages(check_text(value, "prompt"), "prompt", tools, template_kwargs)


def check_response(value: object, column: str) -> str:
    """Return the text of a response, given as text or as a list of one assistant message.

    Raises:
        RowProblem: If it is empty, of another type, or more than one assistant message.
    """
    if not isinstance(value, list):
        return check_text(value, column)
    messages = check_messages(value, column)
    if len(messages) > 1 or messages[0]["role"] != "assistant":
        roles = ", ".join(message["role"] for message in messages)
        raise RowProblem(
            "bad messages",
            f'"{column}" is a response of {len(messages)} messages ({roles}), but must be one '
            "assistant message. Put the turns that both responses share into the prompt; "
            "conversations that part before the last turn cannot be compared here.",
        )
    return read_answer(messages[0], column)


def split_conversations(
    chosen: list[Any], rejected: list[Any]
) -> tuple[list[Message], list[Message], list[Message]]:
    """Split two conversations into their shared prompt and the rest of each.

    As in TRL's ``extract_prompt``, the shared turns are the prompt, and each conversation keeps
    at least one turn.

    Raises:
        RowProblem: If the first turns differ, or messages are malformed.
    """
    first = check_messages(chosen, "chosen")
    second = check_messages(rejected, "rejected")
    cut = _shared_length(first, second)
    if cut == 0:
        raise RowProblem(
            "no shared prompt",
            'there is no "prompt", and "chosen" and "rejected" do not begin with the same '
            'messages. Add a "prompt" column.',
        )
    return first[:cut], first[cut:], second[cut:]


def split_texts(chosen: str, rejected: str) -> tuple[str, str, str, bool]:
    """Split two texts into their shared prompt and the rest of each.

    The cut is that of TRL's ``extract_prompt``: before the first character that differs, moved
    back by one if that follows a space, and never past the last character. If two answers begin
    alike, the cut falls inside the answers, possibly inside a word. The last value returned is
    True if it falls inside a word.

    >>> split_texts("Q: 2 + 2? A: 4", "Q: 2 + 2? A: five")
    ('Q: 2 + 2? A:', ' 4', ' five', False)

    Raises:
        RowProblem: If the first characters differ.
    """
    cut = _shared_length(chosen, rejected)
    if cut and chosen[cut] != rejected[cut] and chosen[cut - 1] == " ":
        cut -= 1
    if not chosen[:cut].strip():
        raise RowProblem(
            "no shared prompt",
            'there is no "prompt", and "chosen" and "rejected" do not begin with the same text. '
            'Add a "prompt" column.',
        )
    inside_word = chosen[cut - 1].isalnum() and (chosen[cut].isalnum() or rejected[cut].isalnum())
    return chosen[:cut], chosen[cut:], rejected[cut:], inside_word


def _shared_length(first: Any, second: Any) -> int:
    """Return the length of the common prefix, leaving at least one element on each side."""
    low, high = 0, max(min(len(first), len(second)) - 1, 0)
    # Bisection over slices: comparing character by character takes seconds per data set.
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low

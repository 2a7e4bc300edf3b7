"""Check chat messages, and extract the implicit prompt that two conversations share."""

import json
from collections.abc import Mapping
from typing import Any, Final

from vrm_pyro.data.problem import RowProblem

Message = dict[str, Any]
"""A turn: ``role`` and ``content`` as text, and the keys of :func:`tool_parts`."""

ROLES = ("system", "user", "assistant", "tool")
# Keys besides role and content that chat templates read from tool calls and tool results.
_TOOL_KEYS: Final = {"assistant": ("tool_calls",), "tool": ("name", "tool_call_id")}


def tool_parts(message: Mapping[str, Any]) -> Message:
    """Return a turn's ``tool_calls``, or the name and id of the call it is the result of.

    Null entries are left out, inside calls too: tables fill them in for arguments that only
    other calls have.
    """
    keys = _TOOL_KEYS.get(message["role"], ())
    return {key: _without_null(message[key]) for key in keys if message.get(key)}


def _without_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_null(v) for k, v in value.items() if v is not None}
    return [_without_null(v) for v in value] if isinstance(value, list) else value


def turn_text(message: Mapping[str, Any]) -> str:
    """Return a turn as text without a chat template: content, then tool calls as JSON.

    >>> turn_text({"role": "assistant", "content": "It is noon."})
    'It is noon.'
    """
    calls = message.get("tool_calls")
    written = json.dumps(calls, ensure_ascii=False) if calls else ""
    return "\n".join(filter(None, (message["content"], written)))


def check_text(value: object, column: str) -> str:
    """Return ``value`` if it is usable text.

    Raises:
        RowProblem: If it is not a string, has no visible character, or cannot be encoded.
    """
    if not isinstance(value, str):
        raise RowProblem("wrong type", f'"{column}" is {kind_of(value)}, but must be text.')
    if not value.strip():
        raise RowProblem("empty text", f'"{column}" is empty. Fill it in or remove the row.')
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RowProblem(
            "broken text",
            f'"{column}" holds half of a surrogate pair (a cut emoji, for instance), which no '
            "tokenizer can read. Remove that character.",
        ) from None
    return value


def check_messages(value: list[Any], column: str) -> list[Message]:
    """Check messages and return them with ``role``, ``content`` and the keys of tool calls.

    Other keys are dropped: they are not encoded. The content of a turn with tool calls may be
    empty or null.

    Raises:
        RowProblem: If the list is empty or a message lacks a known role or a text.
    """
    if not value:
        raise RowProblem("empty text", f'"{column}" is an empty list of messages.')
    messages = []
    for index, message in enumerate(value):
        where = f"{column}[{index}]"
        if not _is_message(message):
            raise RowProblem(
                "bad messages",
                f'"{where}" is {kind_of(message)}, but must be a message such as '
                '{"role": "user", "content": "..."}.',
            )
        if message["role"] not in ROLES:
            raise RowProblem(
                "bad messages",
                f'"{where}" has role {message["role"]!r:.40}; use one of {", ".join(ROLES)}.',
            )
        tools = tool_parts(message)
        content = message.get("content")
        if "tool_calls" in tools:
            _check_calls(tools["tool_calls"], f"{where}.tool_calls")
        if content or "tool_calls" not in tools:
            content = check_text(content, f"{where}.content")
        messages.append({"role": message["role"], "content": content or "", **tools})
    return messages


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and "role" in value
        and ("content" in value or "tool_calls" in value)
    )


def _check_calls(calls: Any, where: str) -> None:
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise RowProblem(
            "bad messages",
            f'"{where}" is no list of objects. Give calls of tools as a chat template reads them: '
            '[{"type": "function", "function": {"name": "...", "arguments": {...}}}].',
        )


def check_prompt(value: object) -> list[Message]:
    """Return a prompt, given as text or messages, as messages; text is one user message.

    Raises:
        RowProblem: If it is neither, or ends with an assistant turn.
    """
    if isinstance(value, list):
        messages = check_messages(value, "prompt")
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
    return [{"role": "user", "content": check_text(value, "prompt")}]


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
    if "tool_calls" in messages[0]:
        raise RowProblem(
            "bad messages",
            f'"{column}" calls tools, but responses are read as text. Write the call as text, or '
            "compare the answers that come after it.",
        )
    text: str = messages[0]["content"]
    return text


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


def kind_of(value: object) -> str:
    """Return the name of a value's JSON type for messages."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    if value is None:
        return "null"
    if type(value) in names:
        return names[type(value)]
    return "a number" if isinstance(value, int | float) else f"a {type(value).__name__}"

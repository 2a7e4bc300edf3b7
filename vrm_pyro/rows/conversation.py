"""Chat messages: checking them, and taking an implicit prompt out of two conversations."""

from typing import Any

from vrm_pyro.rows.problem import RowProblem

Message = dict[str, str]

ROLES = ("system", "user", "assistant", "tool")


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
    """Return a list of messages with ``role`` and ``content`` only.

    Other keys of a message are left out: they are not part of the text that is encoded.

    Raises:
        RowProblem: If the list is empty or a message lacks a known role or a text.
    """
    if not value:
        raise RowProblem("empty text", f'"{column}" is an empty list of messages.')
    messages = []
    for index, message in enumerate(value):
        where = f"{column}[{index}]"
        if not isinstance(message, dict) or "role" not in message or "content" not in message:
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
        content = check_text(message["content"], f"{where}.content")
        messages.append({"role": message["role"], "content": content})
    return messages


def check_prompt(value: object) -> list[Message]:
    """Return a prompt, text or messages, as messages; text is one message of the user.

    Raises:
        RowProblem: If it is neither, or ends with a turn of the assistant.
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
    """Return a response, given as text or as a list with one assistant message, as text.

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
    return messages[0]["content"]


def split_conversations(
    chosen: list[Any], rejected: list[Any]
) -> tuple[list[Message], list[Message], list[Message]]:
    """Return the shared beginning of two conversations and what is left of each.

    As in TRL's ``extract_prompt``, the shared turns are the prompt and at least one turn is left
    on each side.

    Raises:
        RowProblem: If the first turns already differ, or messages are malformed.
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
    """Return the shared beginning of two texts, what is left of each, and a warning sign.

    The cut is that of TRL's ``extract_prompt``: before the first character that differs, moved
    back by one if that follows a space, and never past the last character. Two answers that
    begin alike are therefore cut later than where the answer begins, possibly inside a word;
    the last value says whether this one is.

    Raises:
        RowProblem: If the first characters already differ.
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
    """Return the length of the common beginning, leaving at least one element on each side."""
    low, high = 0, max(min(len(first), len(second)) - 1, 0)
    # Bisection over slices: comparing long texts character by character takes seconds per set.
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def kind_of(value: object) -> str:
    """Name the JSON type of a value in a message to the user."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    if value is None:
        return "null"
    if type(value) in names:
        return names[type(value)]
    return "a number" if isinstance(value, int | float) else f"a {type(value).__name__}"

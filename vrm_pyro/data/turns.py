"""The one reading of a conversation: messages, tools and reasoning as every caller gets them.

Rows, scorers, reward functions and exports all pass through :func:`read_messages` and
:func:`read_answer`, so one conversation has one form wherever it comes from. Templates get what
TRL gives them: roles as they are, ``reasoning_content`` and tool calls as keys of their turn.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.tools import (
    TEMPLATE_KWARGS,
    TOOLS,
    read_calls,
    read_template_kwargs,
    read_tools,
)
from vrm_pyro.data.values import kind_of, plain, readable, without_null

Message = dict[str, Any]
"""A turn: ``role``, ``content`` as text, and what :func:`extras` returns."""

REASONING: Final = "reasoning_content"

# Keys of a message for its reasoning; chat templates know all three.
_REASONING_KEYS: Final = (REASONING, "thinking", "reasoning")
# Keys besides role and content that chat templates read from tool calls and tool results.
_TOOL_KEYS: Final = {"assistant": ("tool_calls",), "tool": ("name", "tool_call_id")}
_TEXT_PARTS: Final = (None, "text", "input_text", "output_text")
_INSTRUCTIONS: Final = ("system", "developer")
_THINK: Final = ("<think>", "</think>")


class Answer(str):
    """A response that came with its reasoning as a key of its own.

    As text it is the reasoning in ``<think>`` tags, then the answer; a chat template gets both
    apart, as :func:`answer_turn` returns them.

    >>> answer = Answer.of("It is 4.", "2 and 2 make 4.")
    >>> answer.content, answer_turn(answer)["reasoning_content"]
    ('It is 4.', '2 and 2 make 4.')
    """

    content: str
    reasoning: str

    @classmethod
    def of(cls, content: str, reasoning: str) -> "Answer":
        """Return a response of an answer and its reasoning."""
        made = cls(f"{_THINK[0]}\n{reasoning}\n{_THINK[1]}\n\n{content}")
        made.content, made.reasoning = content, reasoning
        return made


def answer_turn(response: str) -> Message:
    """Return a response as the assistant's turn that a chat template gets."""
    if isinstance(response, Answer):
        return {
            "role": "assistant",
            "content": response.content,
            REASONING: response.reasoning,
        }
    return {"role": "assistant", "content": response}


def answer_mark(responses: Iterable[str]) -> bytes:
    """Return which responses have reasoning of their own, which hashes of their texts miss."""
    places = [index for index, text in enumerate(responses) if isinstance(text, Answer)]
    return f"reasoning {places}".encode() if places else b""


def without_reasoning(text: str) -> str:
    """Return a response or turn without its ``<think>`` part.

    A part that was opened and never closed is reasoning to the end.

    >>> without_reasoning("<think>2 and 2</think>It is 4."), without_reasoning("<think>2 and")
    ('It is 4.', '')
    """
    if isinstance(text, Answer):
        text = text.content
    before, opened, rest = text.rpartition(_THINK[1])
    if opened:
        text = rest.lstrip("\n")
    return text.partition(_THINK[0])[0] if _THINK[0] in text else str(text)


def strip_messages(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Return messages whose assistant turns have no reasoning."""
    return [
        {
            **{k: v for k, v in turn.items() if k != REASONING},
            "content": without_reasoning(turn["content"]),
        }
        if turn["role"] == "assistant"
        else dict(turn)
        for turn in messages
    ]


def extras(message: Mapping[str, Any]) -> Message:
    """Return what a turn has besides role and content.

    ``tool_calls``, ``name`` and ``tool_call_id``, ``reasoning_content``; and, on the first turn of
    a conversation, its ``tools`` and ``chat_template_kwargs``.
    """
    return {key: value for key, value in message.items() if key not in ("role", "content")}


def turn_text(message: Mapping[str, Any]) -> str:
    """Return a turn as text without a chat template: reasoning, content, then tool calls as JSON.

    >>> turn_text({"role": "assistant", "content": "It is noon."})
    'It is noon.'
    """
    content, calls = message["content"], message.get("tool_calls")
    if message.get(REASONING):
        content = str(Answer.of(content, message[REASONING]))
    written = json.dumps(calls, ensure_ascii=False) if calls else ""
    return "\n".join(filter(None, (content, written)))


def read_messages(
    value: object,
    where: str = "prompt",
    tools: object = None,
    template_kwargs: object = None,
) -> list[Message]:
    """Return a prompt, given as text or messages, in the one form of a conversation.

    Text parts are joined, reasoning gets one key, arguments of tool calls that are JSON text are
    decoded, and nulls that tables fill in are left out, as is a system turn whose content is null.
    Reading the result again changes nothing.

    >>> read_messages([{"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]}])
    [{'role': 'user', 'content': '2 + 2?'}]

    Args:
        value: Text, which is one user message, or messages.
        where: What error messages call it.
        tools: Tools of the conversation: schemas, as a list or its JSON text.
        template_kwargs: Further variables of the chat template, such as ``enable_thinking``.

    Raises:
        RowProblem: If there is no message, or one has no role, or content that is no text.
    """
    if isinstance(value, str):
        turns = [{"role": "user", "content": readable(value, where)}]
    else:
        read = [
            _read_turn(turn, f"{where}[{index}]")
            for index, turn in enumerate(_items(value, where))
        ]
        turns = [turn for turn in read if turn is not None]
    if not turns:
        raise RowProblem(
            "empty text",
            f'"{where}" is an empty list of messages, or a prompt has no message with a content; '
            "give a text or at least one user message.",
        )
    carried: Message = {TOOLS: read_tools(tools)}
    carried[TEMPLATE_KWARGS] = read_template_kwargs(template_kwargs)
    turns[0] = {**turns[0], **{key: held for key, held in carried.items() if held}}
    return turns


def for_template(
    messages: Sequence[Mapping[str, Any]],
) -> tuple[list[Message], list[Any] | None, Mapping[str, Any]]:
    """Return the turns, tools and further variables that a chat template gets.

    Args:
        messages: A result of :func:`read_messages`.
    """
    first = messages[0]
    plain = [dict(turn) for turn in messages]
    if TOOLS in first or TEMPLATE_KWARGS in first:
        plain[0] = {k: v for k, v in first.items() if k not in (TOOLS, TEMPLATE_KWARGS)}
    return plain, first.get(TOOLS), first.get(TEMPLATE_KWARGS, {})


def read_answer(value: object, where: str = "response") -> str:
    """Return a response, given as text or as one assistant message, in its one form.

    >>> read_answer({"role": "assistant", "content": [{"type": "text", "text": "4"}]})
    '4'

    Raises:
        RowProblem: If it is neither, or calls tools.
    """
    if isinstance(value, str):
        return readable(value, where)
    if isinstance(value, Sequence) and len(value) == 1:
        value = value[0]
    turn = _read_turn(value, where)
    if turn is None or turn["role"] != "assistant":
        role = None if turn is None else turn["role"]
        raise RowProblem(
            "bad messages", f'"{where}" is a message of {role}, but must be the assistant\'s.'
        )
    if "tool_calls" in turn:
        raise RowProblem(
            "bad messages",
            f'"{where}" calls tools, but responses are read as text. Write the call as text, or '
            "compare the answers that come after it.",
        )
    return Answer.of(turn["content"], turn[REASONING]) if REASONING in turn else turn["content"]


def _items(value: object, where: str) -> list[Any]:
    # Parquet gives messages as an array of objects.
    if isinstance(value, bytes | Mapping) or not isinstance(value, Iterable):
        raise RowProblem(
            "wrong type",
            f'"{where}" is {kind_of(value)}, but must be text or a list of '
            '{"role", "content"} messages.',
        )
    return list(value)


def _read_turn(message: Any, where: str) -> Message | None:
    """Return a turn in its one form; None for a system turn whose content is null."""
    if not isinstance(message, Mapping):
        raise RowProblem(
            "bad messages",
            f'"{where}" is {kind_of(message)}, but must be a message such as '
            '{"role": "user", "content": "..."}.',
        )
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise RowProblem(
            "bad messages",
            f"\"{where}\" {_excerpt(message)} has no 'role', but must be a message such as "
            '{"role": "user", "content": "..."}.',
        )
    found: Message = {"role": readable(role, f"{where}.role"), "content": ""}
    reasoning = next((message[k] for k in _REASONING_KEYS if message.get(k)), None)
    calls = without_null(message.get("tool_calls")) if role == "assistant" else None
    content = message.get("content")
    if content is None:
        if role in _INSTRUCTIONS:
            return None
        if role != "assistant" or not ("content" in message or calls or reasoning):
            raise RowProblem(
                "bad messages",
                f"\"{where}\" has no text 'content', but must be a message such as "
                '{"role": "user", "content": "..."}.',
            )
    else:
        found["content"] = readable(_content(content, f"{where}.content"), f"{where}.content")
    if calls:
        found["tool_calls"] = read_calls(calls, f"{where}.tool_calls")
    for key in _TOOL_KEYS.get(role, ()):
        if key != "tool_calls" and message.get(key):
            found[key] = plain(message[key], f"{where}.{key}")
    if reasoning is not None and role == "assistant":
        found[REASONING] = readable(
            _content(reasoning, f"{where}.{REASONING}"), f"{where}.{REASONING}"
        )
    if message.get(TOOLS):
        found[TOOLS] = read_tools(message[TOOLS])
    if message.get(TEMPLATE_KWARGS):
        found[TEMPLATE_KWARGS] = read_template_kwargs(message[TEMPLATE_KWARGS])
    return found


def _content(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    parts = [content] if isinstance(content, Mapping) else content
    if isinstance(parts, Iterable) and not isinstance(parts, bytes):
        texts = [_part(part) for part in parts]
        if all(text is not None for text in texts):
            return "".join(cast(list[str], texts))
    raise RowProblem(
        "bad messages",
        f'"{where}" cannot be read: its content is no text, but must be text or a list of text '
        "parts. Images, sound and other media are not read here.",
    )


def _part(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping) or part.get("type") not in _TEXT_PARTS:
        return None
    text = part.get("text")
    return text if isinstance(text, str) else None


def _excerpt(message: Mapping[str, Any]) -> str:
    return repr(dict(message))[:80]

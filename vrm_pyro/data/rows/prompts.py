"""The prompt of a row: with its system column, and refused where it would be a guess."""

import re
from collections.abc import Mapping
from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.rows.conversation import Message, check_prompt
from vrm_pyro.data.schemas.transcript import is_transcript

SYSTEM = "system"
_TEXT_COLUMNS = ("prompt", "chosen", "rejected", "response")
# Columns that hold the prompt in published and own tables.
_LIKELY = (
    "question",
    "input",
    "instruction",
    "query",
    "context",
    "history",
    "conversations",
    "conversation",
    "messages",
    "trajectory",
    "problem",
    "dialogue",
    "dialog",
    "user",
    "post",
    "title",
)
# How Python, NumPy and pandas print a list of messages.
_PRINTED = re.compile(r"\s*(?:array\()?\[\s*\{\s*'(?:role|content|from|value)'\s*:")
_MARKERS = (
    "<|im_start|>",
    "<|start_header_id|>",
    "<|begin_of_text|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<\uff5cUser\uff5c>",
    "<start_of_turn>",
    "<extra_id_1>",
    "[INST]",
)


def row_prompt(value: Any, row: Mapping[str, Any]) -> list[Message]:
    """Return a prompt, given as text or messages, as messages, after the row's system column.

    >>> row_prompt("Sky?", {"system": "Be brief."})[0]
    {'role': 'system', 'content': 'Be brief.'}

    Raises:
        RowProblem: If it is no prompt, or has a system turn that differs from the column.
    """
    system = row.get(SYSTEM)
    if not isinstance(system, str) or not system.strip():
        return check_prompt(value, row)
    turn = {"role": "system", "content": system}
    if isinstance(value, str):
        return check_prompt([turn, {"role": "user", "content": value}], row)
    if not isinstance(value, list):
        return check_prompt(value, row)
    messages = check_prompt(value, row)
    if messages[0]["role"] != "system":
        return check_prompt([turn, *value], row)
    if messages[0]["content"].strip() != system.strip():
        raise RowProblem(
            "contradicting prompt",
            f'"{SYSTEM}" is {system!r:.60}, but "prompt" begins with another system turn, '
            f"{messages[0]['content']!r:.60}. Keep one of them.",
        )
    return messages


def check_begins(given: object, response: object, column: str) -> None:
    """Raise RowProblem if a conversation beside a prompt of messages begins otherwise."""
    if not isinstance(given, list) or not isinstance(response, list) or len(response) < 2:
        return
    first = response[0]
    if isinstance(first, Mapping) and first.get("role") != "assistant":
        raise RowProblem(
            "contradicting prompt",
            f'"{column}" is a conversation that does not begin with the messages of "prompt". '
            "Give the answer alone, or leave the prompt out.",
        )


def check_same_prompt(given: object, prompt: list[Message]) -> None:
    """Raise RowProblem if a text prompt is no part of the conversations that it stands beside.

    Args:
        given: The row's ``prompt``; only a text is looked at.
        prompt: The turns that the two conversations share.
    """
    if not isinstance(given, str) or not given.strip():
        return
    text = given.strip()
    turns = [turn["content"].strip() for turn in prompt if turn["role"] != "assistant"]
    if not any(turn and (turn in text or text in turn) for turn in turns):
        raise RowProblem(
            "contradicting prompt",
            f'"prompt" is {text!r:.60}, which is nowhere in the conversations of "chosen" and '
            f'"rejected"; they begin with {turns[-1] if turns else ""!r:.60}. Correct it, or '
            "leave it out.",
        )


def refuse_likely_prompt(row: Mapping[str, Any]) -> None:
    """Raise RowProblem if a row without ``prompt`` has a column that looks like the prompt."""
    likely = [name for name in _LIKELY if row.get(name)]
    if likely:
        raise RowProblem(
            "missing column",
            f'there is no "prompt", and "{likely[0]}" looks like it. Say so with --data.columns '
            f"prompt={likely[0]}, or rename it.",
        )


def refuse_printed_lists(row: Mapping[str, Any]) -> None:
    """Raise RowProblem if a text is a list of messages as Python or pandas prints it."""
    for column in _TEXT_COLUMNS:
        value = row.get(column)
        if isinstance(value, str) and _PRINTED.match(value):
            raise RowProblem(
                "a list as text",
                f'"{column}" is a list as Python or pandas prints it, not JSON: {value[:40]!r}. '
                "Write messages as JSON, for instance with DataFrame.to_json(orient='records', "
                "lines=True).",
            )


def is_templated(prompt: list[Message]) -> bool:
    """Whether a prompt already holds the markers of a chat template.

    >>> is_templated([{"role": "user", "content": "<|im_start|>user"}])
    True
    """
    return any(_has_marker(turn["content"]) for turn in prompt)


def _has_marker(text: str) -> bool:
    return any(marker in text for marker in _MARKERS) or is_transcript(text)

"""Tools, calls of tools and template variables of a conversation."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.values import from_json, kind_of, plain, without_null

TOOLS: Final = "tools"
TEMPLATE_KWARGS: Final = "chat_template_kwargs"

# Arguments of apply_chat_template that are no variables of a template.
_RESERVED: Final = frozenset(
    (
        *("tools", "messages", "conversation", "chat_template", "tokenize", "tokenizer_kwargs"),
        *("add_generation_prompt", "continue_final_message", "padding", "truncation"),
        *("max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask"),
    )
)


def read_calls(calls: Any, where: str) -> list[dict[str, Any]]:
    """Return the calls of tools of a turn; arguments that are JSON text are decoded.

    Raises:
        RowProblem: If they are no list of objects.
    """
    if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
        raise RowProblem(
            "bad messages",
            f'"{where}" is no list of objects. Give calls of tools as a chat template reads them: '
            '[{"type": "function", "function": {"name": "...", "arguments": {...}}}].',
        )
    found = []
    for call in calls:
        call = dict(call)
        if isinstance(call.get("function"), Mapping):
            call["function"] = _decoded(call["function"])
        found.append(_decoded(call))
    result: list[dict[str, Any]] = plain(found, where)
    return result


def _decoded(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call whose arguments are an object, where they are the JSON text of one."""
    arguments = call.get("arguments")
    if isinstance(arguments, str):
        parsed = from_json(arguments)
        if isinstance(parsed, dict):
            return {**call, "arguments": without_null(parsed)}
    return dict(call)


def read_tools(value: object) -> list[Any] | None:
    """Return the schemas of a conversation's tools, given as a list or its JSON text.

    Raises:
        RowProblem: If they are no list of objects.
    """
    parsed = from_json(value) if isinstance(value, str) else value
    if parsed is None or (isinstance(parsed, str) and not parsed.strip()):
        return None
    if isinstance(parsed, Mapping):
        parsed = [parsed]
    if isinstance(parsed, bytes | str) or not isinstance(parsed, Iterable):
        parsed = [parsed]
    tools = [without_null(tool) for tool in parsed]
    if not all(isinstance(tool, Mapping) for tool in tools):
        raise RowProblem(
            "bad tools",
            f'"{TOOLS}" is no list of objects. Give JSON schemas, one for each tool: '
            '[{"type": "function", "function": {"name": "...", "parameters": {...}}}].',
        )
    return plain(tools, TOOLS) or None


def read_template_kwargs(value: object) -> dict[str, Any] | None:
    """Return further variables of a chat template, given as an object or its JSON text.

    Raises:
        RowProblem: If they are no object, or one is no variable of a template.
    """
    parsed = from_json(value) if isinstance(value, str) else value
    if parsed is None or parsed == "":
        return None
    if not isinstance(parsed, Mapping):
        raise RowProblem(
            "bad template settings",
            f'"{TEMPLATE_KWARGS}" is {kind_of(parsed)}, but must be an object such as '
            '{"enable_thinking": false}.',
        )
    found = {str(name): value for name, value in parsed.items() if value is not None}
    wrong = sorted(_RESERVED & found.keys())
    if wrong:
        raise RowProblem(
            "bad template settings",
            f'"{TEMPLATE_KWARGS}" sets "{wrong[0]}", which is no variable of a chat template. '
            f'Leave it out; tools stand in "{TOOLS}".',
        )
    return plain(found, TEMPLATE_KWARGS) or None

"""Chat templates in the manner of known families of models, written for tests, with tokenizers.

Each does what makes its family hard to read: where the response begins, what it does to reasoning
and to calls of tools, whether it writes the date, and what it refuses.
"""

from pathlib import Path
from typing import NamedTuple

from helpers.tiny_backbones import bytes_tokenizer

PLACE = Path(__file__).parent / "chat_templates"


class Family(NamedTuple):
    """The special tokens that a template writes; the template is a file of its name.

    Args:
        special: Special tokens, without the opening and closing one.
        bos: Opening token that the tokenizer adds to texts, empty for none.
        eos: Closing token.
        refuses: Kinds of conversations (keys of ``CONVERSATIONS``) that it refuses.
    """

    special: tuple[str, ...]
    bos: str
    eos: str
    refuses: tuple[str, ...] = ()


_CHATML = ("<|im_start|>", "<tool_call>", "</tool_call>", "<think>", "</think>")
_HEADERS = ("<|start_header_id|>", "<|end_header_id|>")
_DEEPSEEK = (
    *("<|User|>", "<|Assistant|>", "<|tool_call_begin|>", "<|tool_call_end|>", "<|tool_sep|>"),
    *("<|tool_output_begin|>", "<|tool_output_end|>", "<think>", "</think>"),
)
_TURNS_ALTERNATE = ("developer", "tools", "empty tool result")
FAMILIES = {
    "llama2": Family((), "<s>", "</s>", _TURNS_ALTERNATE),
    "llama3": Family(_HEADERS, "<|begin_of_text|>", "<|eot_id|>"),
    "llama3.2": Family(_HEADERS, "<|begin_of_text|>", "<|eot_id|>"),
    "qwen2.5": Family(_CHATML, "", "<|im_end|>"),
    "qwen3": Family(_CHATML, "", "<|im_end|>"),
    "qwen3-thinking": Family(_CHATML, "", "<|im_end|>"),
    "gemma": Family(
        ("<start_of_turn>", "<end_of_turn>"),
        "<bos>",
        "<eos>",
        (*_TURNS_ALTERNATE, "system", "empty system"),
    ),
    "mistral": Family(
        (
            *("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]"),
            *("[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
        ),
        "<s>",
        "</s>",
        ("developer",),
    ),
    "deepseek-v3": Family(_DEEPSEEK, "<|begin|>", "<|endoftext|>"),
    "r1-distill": Family(_DEEPSEEK, "<|begin|>", "<|endoftext|>"),
    "glm": Family(
        (
            *("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
            *("<think>", "</think>"),
        ),
        "",
        "<|endoftext|>",
    ),
    "gpt-oss": Family(
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>"),
        "",
        "<|return|>",
    ),
    "nemotron": Family(
        ("<SPECIAL_10>", "<SPECIAL_11>", "<SPECIAL_12>", "<think>", "</think>"),
        "",
        "</s>",
    ),
}

CALL = {
    "id": "call00001",
    "type": "function",
    "function": {"name": "weather", "arguments": {"city": "Rome"}},
}
TEXT_CALL = {**CALL, "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Get the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def _turn(role: str, content: object, **more: object) -> dict:
    return {"role": role, "content": content, **more}


_ASK = _turn("user", "What is 2 + 2?")
_EARLIER = [_turn("user", "Name a river."), _turn("assistant", "The Nile."), _ASK]
_CALLED = [
    _turn("user", "Weather in Rome?"),
    _turn("assistant", None, tool_calls=[TEXT_CALL]),
    _turn("tool", "21", name="weather", tool_call_id="call00001"),
]
# By kind: the row's prompt, and what else the row has.
CONVERSATIONS: dict[str, tuple[object, dict]] = {
    "text": ("What is 2 + 2?", {}),
    "message": ([_ASK], {}),
    "several turns": (_EARLIER, {}),
    "system": ([_turn("system", "Be brief."), *_EARLIER], {}),
    "empty system": ([_turn("system", ""), _ASK], {}),
    "null system": ([_turn("system", None), _ASK], {}),
    "developer": ([_turn("developer", "Be brief."), _ASK], {}),
    "parts": (
        [
            _turn(
                "user",
                [{"type": "text", "text": "What is "}, {"type": "text", "text": "2 + 2?"}],
            )
        ],
        {},
    ),
    "tools": (_CALLED, {"tools": [TOOL]}),
    "empty tool result": ([*_CALLED[:2], {**_CALLED[2], "content": ""}], {}),
    "earlier reasoning": (
        [_EARLIER[0], _turn("assistant", "The Nile.", reasoning_content="Egypt."), _ASK],
        {},
    ),
    "earlier think part": (
        [_EARLIER[0], _turn("assistant", "<think>\nEgypt.\n</think>\n\nThe Nile."), _ASK],
        {},
    ),
    "template variables": ([_ASK], {"chat_template_kwargs": {"enable_thinking": False}}),
}
RESPONSES: tuple[object, ...] = (
    "It is 4.",
    [_turn("assistant", "Four", reasoning_content="2 and 2 make 4.")],
    "<think>\nTwo and two.\n</think>\n\nIt is four.",
    [_turn("assistant", [{"type": "text", "text": "4: "}, {"type": "text", "text": "four"}])],
    "\n\n  - 4",
    "数学 4 😀 ",
)


def family_tokenizer(name: str):
    """Return a byte-level tokenizer with the special tokens and the template of a family."""
    family = FAMILIES[name]
    template = (PLACE / f"{name}.jinja").read_text().removesuffix("\n")
    pad = "<|pad|>"
    special = [token for token in (family.bos, family.eos, *family.special, pad) if token]
    names = {"eos_token": family.eos, "pad_token": pad}
    if family.bos:
        names["bos_token"] = family.bos
    opening = f"{family.bos} " if family.bos else ""
    return bytes_tokenizer(f"{opening}$A", f"{opening}$A {opening}$B", special, template, **names)

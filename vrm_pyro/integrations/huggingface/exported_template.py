"""The chat template of an exported model: trainers that render with it read as the run does."""

from collections.abc import Sequence
from typing import Any, Final

from transformers import PreTrainedTokenizerBase

from vrm_pyro.backbone.chat import ChatEncoder
from vrm_pyro.backbone.template import fixed

# Python's normaliser (vrm_pyro.data.turns) in the template's language, as far as it goes: text
# parts are joined, null contents are empty, and a system turn without content is left out.
_READ: Final = """
{%- set vrm_read = namespace(turns=[]) -%}
{%- for m in messages -%}
{%- set content = m.content -%}
{%- if content is not string and content -%}
{%- for part in content -%}{%- if part is not string and part.type | default('text') != 'text' -%}
{{- raise_exception('content is no text: images and other media are not read here') -}}
{%- endif -%}{%- endfor -%}
{%- set content = content | map(attribute='text') | join -%}
{%- elif content is not string -%}{%- set content = '' -%}{%- endif -%}
{%- if m.content is string or content or m.role not in ['system', 'developer'] -%}
STRIP
{%- set turn = namespace(kept={}) -%}
{%- for key, value in m.items() -%}
{%- if key not in DROPPED -%}{%- set turn.kept = dict(turn.kept, **{key: value}) -%}{%- endif -%}
{%- endfor -%}
{%- set turn.kept = dict(turn.kept, content=content) -%}
CALLS
{%- set vrm_read.turns = vrm_read.turns + [turn.kept] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = vrm_read.turns -%}"""

_STRIP: Final = """
{%- if m.role == 'assistant' -%}
{%- if '</think>' in content -%}
{%- set content = content.split('</think>')[-1].lstrip('\\n') -%}{%- endif -%}
{%- set content = content.split('<think>')[0] -%}{%- endif -%}"""

_TEXT_CALLS: Final = """
{%- if m.tool_calls -%}
{%- set made = namespace(calls=[]) -%}
{%- for c in m.tool_calls -%}
{%- set f = c.function -%}
{%- if f is mapping and f.arguments is mapping -%}
{%- set c = dict(c, function=dict(f, arguments=f.arguments | tojson)) -%}{%- endif -%}
{%- set made.calls = made.calls + [c] -%}
{%- endfor -%}
{%- set turn.kept = dict(turn.kept, tool_calls=made.calls) -%}
{%- endif -%}"""


def exported_tokenizer(encoder: ChatEncoder) -> PreTrainedTokenizerBase:
    """Return a copy of the tokenizer with a chat template that matches the encoder.

    A tokenizer without a template gets one that writes roles or pairs as
    :class:`~vrm_pyro.backbone.chat.ChatEncoder` does, including special tokens. Before the
    template stand statements that fix its date and read messages as the encoder does.
    """
    strips = encoder.settings.reasoning == "strip"
    as_text = encoder.chat_template is not None and encoder.chat_template.arguments_are_text
    dropped = ["content", *(["reasoning_content", "thinking", "reasoning"] if strips else [])]
    read = _READ.replace("STRIP", _STRIP if strips else "").replace("DROPPED", str(dropped))
    read = read.replace("CALLS", _TEXT_CALLS if as_text else "").replace("\n", "")
    # Kept for whoever loads the tokenizer as that of a backbone.
    held = {"reasoning": encoder.settings.reasoning}
    tokenizer: Any = encoder.fixed_tokenizer(read, **held)
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token  # the mask marks padding, not the id
    if encoder.chat_template is None:
        tokenizer.chat_template = fixed(_written(encoder), None, read, **held)
    return tokenizer


def _written(encoder: ChatEncoder) -> str:
    """Return a template that writes roles or pairs with their special tokens."""
    layout = encoder.layout
    tokens = encoder.tokenizer.convert_ids_to_tokens

    def text(special: Sequence[tuple[int, int]]) -> str:
        return repr("".join(tokens([i for i, _ in special])))

    special = layout.pair
    # As vrm_pyro.backbone.messages.with_roles writes them.
    lines = (
        "{%- if tools -%}{{- 'tools: ' + tools | tojson + '\\n' -}}{%- endif -%}"
        "{%- for m in asked -%}{{- m['role'] + ': ' -}}"
        "{%- if m.reasoning_content -%}"
        "{{- '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' -}}{%- endif -%}"
        "{{- m['content'] -}}"
        "{%- if m.tool_calls -%}"
        "{{- ('\\n' if m['content'] or m.reasoning_content else '') + m.tool_calls | tojson -}}"
        "{%- endif -%}"
        "{%- if not loop.last -%}{{- '\\n' -}}{%- endif -%}{%- endfor -%}"
    )
    header, lead = repr("\nassistant:"), "' '"
    if layout.template == "pair":
        alone = "asked | length == 1 and asked[0]['role'] == 'user' and not tools"
        lines = (
            f"{{%- if {alone} -%}}{{{{- asked[0]['content'] -}}}}"
            f"{{%- else -%}}{lines}{{%- endif -%}}"
        )
        header, lead = text(special.between), "''"
    return (
        "{%- set answered = messages[-1]['role'] == 'assistant' and not add_generation_prompt -%}"
        "{%- set asked = messages[:-1] if answered else messages -%}"
        f"{{{{- {text(special.before)} -}}}}{lines}"
        f"{{%- if answered -%}}{{{{- {header} + {lead} -}}}}"
        "{%- if messages[-1].reasoning_content -%}"
        "{{- '<think>\\n' + messages[-1].reasoning_content + '\\n</think>\\n\\n' -}}{%- endif -%}"
        f"{{{{- messages[-1]['content'] + {text(special.after)} -}}}}"
        f"{{%- elif add_generation_prompt -%}}{{{{- {header} -}}}}{{%- endif -%}}"
    )

"""Find the token ids with which the chat template begins a response, for export."""

import copy
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from vrm_pyro.backbone import TransformerBackbone
from vrm_pyro.backbone.chat import ChatEncoder, TokenSequence
from vrm_pyro.backbone.messages import Messages, as_messages
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface.reading import Reading, last_occurrence

# Prompts and answers for comparing the reading of token ids with the encoding of texts. Their
# starts and ends differ, since a tokenizer may merge characters across the boundary.
PROMPTS: Final[tuple[Messages, ...]] = (
    [{"role": "user", "content": "What is 2 + 2?"}],
    [
        {"role": "user", "content": "Name a river."},
        {"role": "assistant", "content": "The Nile."},
        {"role": "user", "content": "And a longer one. Name it in one word"},
    ],
    [
        {"role": "system", "content": "You answer briefly."},
        {
            "role": "user",
            "content": "Why is the sky blue, and why not in the evening? Answer briefly.",
        },
    ],
)
ANSWERS: Final = (
    "4",
    "The Amazon may be longer; it depends on where one begins to measure. " * 3,
    "Air scatters short waves more.\n\nIn the evening the light has come a longer way.",
)

# Answers that begin with white space; the marker is the part of the header that they keep.
_ODD_ANSWERS: Final = ("\nYes.", " Yes.", "\n\n  - yes")


def exported_tokenizer(encoder: ChatEncoder) -> PreTrainedTokenizerBase:
    """Return a copy of the tokenizer with a chat template that matches the encoder.

    A tokenizer without a template gets one that writes roles or pairs as
    :class:`~vrm_pyro.backbone.chat.ChatEncoder` does, including special tokens.
    """
    tokenizer: Any = copy.deepcopy(encoder.tokenizer)
    layout = encoder.layout
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token  # the mask marks padding, not the id
    if layout.template == "chat":
        return tokenizer

    def text(tokens: Sequence[tuple[int, int]]) -> str:
        return repr("".join(tokenizer.convert_ids_to_tokens([i for i, _ in tokens])))

    special = layout.pair
    turn = "m['role'] + ': ' + m['content']"
    lines = (
        f"{{%- for m in asked -%}}{{{{- {turn} -}}}}"
        "{%- if not loop.last -%}{{- '\\n' -}}{%- endif -%}{%- endfor -%}"
    )
    header, lead = repr("\nassistant:"), "' '"
    if layout.template == "pair":
        alone = "asked | length == 1 and asked[0]['role'] == 'user'"
        lines = (
            f"{{%- if {alone} -%}}{{{{- asked[0]['content'] -}}}}"
            f"{{%- else -%}}{lines}{{%- endif -%}}"
        )
        header, lead = text(special.between), "''"
    tokenizer.chat_template = (
        "{%- set answered = messages[-1]['role'] == 'assistant' and not add_generation_prompt -%}"
        "{%- set asked = messages[:-1] if answered else messages -%}"
        f"{{{{- {text(special.before)} -}}}}{lines}"
        f"{{%- if answered -%}}{{{{- {header} + {lead} + messages[-1]['content'] + "
        f"{text(special.after)} -}}}}"
        f"{{%- elif add_generation_prompt -%}}{{{{- {header} -}}}}{{%- endif -%}}"
    )
    return tokenizer


def reading_of(
    backbone: TransformerBackbone,
    tokenizer: PreTrainedTokenizerBase,
    without_boundary: str = "raise",
) -> Reading:
    """Return how to read token ids that were written with an exported tokenizer.

    Args:
        backbone: The backbone with its encoder of texts.
        tokenizer: :func:`exported_tokenizer` of that encoder.
        without_boundary: Whether to accept a template that marks no answer (``whole_text``).

    Raises:
        InputError: If the template marks no answer, or token ids would be read differently from
            their texts.
    """
    if backbone.chat.layout.template == "chat" or not backbone.chat.layout.pair.between:
        header, marker = find_marker(tokenizer)
    else:
        header = marker = tuple(i for i, _ in backbone.chat.layout.pair.between)
    if not marker and without_boundary == "raise":
        raise InputError(
            f"backbone {backbone.name}: its chat template marks no place where an answer begins, "
            "so a row of token ids cannot be divided into prompt and response. Use the folder of "
            "the run (Scorer, vrm_pyro.VRMReward), which reads them separately; or export with "
            "--without_boundary whole_text, and weights are then read off the whole text."
        )
    exported = ChatEncoder(tokenizer, backbone.max_length, backbone.is_decoder)
    reading = Reading(
        layout=backbone.chat.layout,
        header=header,
        marker=marker,
        pooling=backbone.pooling,
        is_decoder=backbone.is_decoder,
        counts_positions=backbone.takes_positions,
        shares_prompts=backbone.shares_prompts,
        pad_id=backbone.pad_id,
        template_hash=exported.template_hash,
        tokenizer_hash=exported.tokenizer_hash,
    )
    if marker:
        _check_reading(reading, backbone.chat, tokenizer)
    return reading


def find_marker(tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the header, the ids with which a template begins an answer, and its marker.

    The header is what the generation prompt adds or, without one, the common end of all prompts.
    The marker is the longest prefix of the header that occurs in the full rendering of every
    probe, for any beginning of the answer. Both are empty if the template has no such ids.
    """
    usable = [p for p in PROMPTS if render_ids(tokenizer, p, True) is not None]
    prompts = [render_ids(tokenizer, p, True) or [] for p in usable]
    plain = [render_ids(tokenizer, p, False) or [] for p in usable]
    added = [a[_common(a, b) :] for a, b in zip(prompts, plain, strict=True)]
    header = added[0] if added and all(a == added[0] for a in added) else []
    if not header and prompts:
        ends = [list(reversed(ids)) for ids in prompts]
        size = min(_common(ends[0], other) for other in ends[1:]) if len(ends) > 1 else 0
        header = prompts[0][len(prompts[0]) - size :]
    full = [
        ids
        for prompt in usable
        for answer in (*ANSWERS, *_ODD_ANSWERS)
        if (ids := render_ids(tokenizer, answered(prompt, answer), False)) is not None
    ]
    marker = list(header)
    while marker and not all(last_occurrence(ids, marker) is not None for ids in full):
        marker.pop()
    return tuple(header), tuple(marker)


def answered(prompt: Messages, answer: str) -> list[dict[str, Any]]:
    """Return a conversation that ends with an answer."""
    return [*(dict(m) for m in as_messages(prompt)), {"role": "assistant", "content": answer}]


def render_ids(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, add_generation_prompt: bool
) -> list[int] | None:
    """Return a conversation's ids as trainers tokenize it; None if the template refuses it."""
    try:
        text = tokenizer.apply_chat_template(
            [dict(m) for m in messages],
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
    except (TemplateError, ValueError, TypeError):
        return None
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _check_reading(
    reading: Reading, encoder: ChatEncoder, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Raise InputError unless token ids are read in the same way as their texts."""
    checked = 0
    for prompt in PROMPTS:
        for answer in ANSWERS:
            ids = render_ids(tokenizer, answered(prompt, answer), False)
            if ids is None:
                continue
            expected = (*encoder.encode([prompt]), *encoder.encode([prompt], [answer]))
            found = reading.split(np.array(ids, dtype=np.int64))
            checked += 1
            for a, b, what in zip(expected, found, ("prompt", "prompt and answer"), strict=True):
                if not _same(a, b):
                    raise InputError(
                        f"the chat template of the backbone writes {answer!r} after "
                        f"{as_messages(prompt)[-1]['content']!r} so that its {what} are token ids "
                        f"{b.input_ids.tolist()[-12:]} at the end, where the model was trained on "
                        f"{a.input_ids.tolist()[-12:]}. Rows of ids cannot be read as the texts "
                        "are; use the folder of the run (Scorer, vrm_pyro.VRMReward)."
                    )
    if not checked:
        raise InputError(
            "the chat template of the backbone refuses every conversation; set another one."
        )


def _same(a: TokenSequence, b: TokenSequence) -> bool:
    return a.digest == b.digest


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the common prefix of two lists of ids."""
    size = 0
    while size < min(len(a), len(b)) and a[size] == b[size]:
        size += 1
    return size

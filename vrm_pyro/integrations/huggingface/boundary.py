"""Find the token ids with which the chat template begins a response, for export."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from transformers import PreTrainedTokenizerBase

from vrm_pyro.backbone import TransformerBackbone
from vrm_pyro.backbone.chat import ChatEncoder
from vrm_pyro.backbone.layout import TokenSequence
from vrm_pyro.backbone.messages import Messages, as_messages
from vrm_pyro.backbone.template import (
    REFUSALS,
    ChatTemplate,
    RefusedConversation,
    common_length,
    prelude_settings,
)
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
    between = tuple(i for i, _ in backbone.chat.layout.pair.between)
    header, marker = (between, between) if between else find_marker(tokenizer)
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
        appended=() if backbone.chat.layout.pair.after else tuple(backbone.chat.appended),
        ending=_common_end(_renderings(tokenizer, PROMPTS, ANSWERS)),
        others=() if between else _other_markers(tokenizer, marker),
        repeats=bool(marker) and not between and _marks_reasoning(tokenizer, marker),
    )
    if marker:
        _check_reading(reading, backbone.chat, tokenizer)
    return replace(reading, blank=_blank(reading, tokenizer))


def find_marker(tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the header, the ids with which a template begins an answer, and its marker.

    The header is what stands between the last turn of a prompt and any answer to it
    (:meth:`vrm_pyro.backbone.template.ChatTemplate.before_answer`) or, where a template adds
    nothing there, the common end of all prompts. The marker is the longest prefix of the header
    that occurs in the full rendering of every probe, for any beginning of the answer. Both are
    empty if the template has no such ids.
    """
    prompts = [(p, ids) for p in PROMPTS if (ids := _before_answer(tokenizer, p)) is not None]
    plain = [render_ids(tokenizer, p, False) or [] for p, _ in prompts]
    added = [a[common_length(a, b) :] for (_, a), b in zip(prompts, plain, strict=True)]
    header = added[0] if added and all(a == added[0] for a in added) else []
    if not header and prompts:
        header = list(_common_end([ids for _, ids in prompts])) if len(prompts) > 1 else []
    full = _renderings(tokenizer, [p for p, _ in prompts], (*ANSWERS, *_ODD_ANSWERS))
    marker = list(header)
    while marker and not all(last_occurrence(ids, marker) is not None for ids in full):
        marker.pop()
    return tuple(header), tuple(marker)


def _blank(reading: Reading, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the ids that stand where an answer would, when it is empty."""
    for prompt in PROMPTS:
        ids = render_ids(tokenizer, answered(prompt, ""), False)
        if ids is not None and reading.marker:
            try:
                found = reading.split(np.array(ids, dtype=np.int64))[1]
            except InputError:
                return ()
            return tuple(int(i) for i in found.input_ids[found.boundary :])
    return ()


def _before_answer(tokenizer: PreTrainedTokenizerBase, prompt: Messages) -> list[int] | None:
    """Return the ids of a prompt, up to where any answer begins; None if it is refused."""
    template = ChatTemplate(tokenizer, prelude_settings(tokenizer.chat_template).get("date"))
    try:
        text = template.before_answer(prompt)
    except RefusedConversation:
        return None
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _renderings(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Messages], answers: Sequence[str]
) -> list[list[int]]:
    """Return the ids of all conversations of a prompt and an answer that the template takes."""
    made = (
        render_ids(tokenizer, answered(prompt, answer), False)
        for prompt in prompts
        for answer in answers
    )
    return [ids for ids in made if ids is not None]


def _common_end(rows: Sequence[list[int]]) -> tuple[int, ...]:
    ends = [row[::-1] for row in rows]
    size = min((common_length(ends[0], other) for other in ends[1:]), default=0)
    return tuple(rows[0][len(rows[0]) - size :]) if rows else ()


def _other_markers(
    tokenizer: PreTrainedTokenizerBase, marker: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    """Return what ends prompts that end with a tool's result, where the marker does not."""
    call = {"id": "call00001", "type": "function", "function": {"name": "look", "arguments": {}}}
    prompts: list[Messages] = [
        [
            *PROMPTS[0],
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": text, "name": "look", "tool_call_id": "call00001"},
        ]
        for text in ("It is 4.", "That is five")
    ]
    found = [ids for p in prompts if (ids := _before_answer(tokenizer, p)) is not None]
    end = _common_end(found) if len(found) == len(prompts) else ()
    return (end,) if marker and end and tuple(end[-len(marker) :]) != tuple(marker) else ()


def _marks_reasoning(tokenizer: PreTrainedTokenizerBase, marker: Sequence[int]) -> bool:
    """Whether a template writes the marker before reasoning, and again before its answer."""
    thought = {"role": "assistant", "content": "Yes.", "reasoning_content": "It is."}
    ids, plain = (
        render_ids(tokenizer, [*PROMPTS[0], turn], False) or []
        for turn in (thought, {"role": "assistant", "content": "Yes."})
    )
    return _count(ids, marker) > _count(plain, marker)


def _count(ids: Sequence[int], marker: Sequence[int]) -> int:
    size = len(marker)
    return sum(tuple(ids[i : i + size]) == tuple(marker) for i in range(len(ids) - size + 1))


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
    except REFUSALS:
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

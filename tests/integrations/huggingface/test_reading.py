"""Rows of ids are read as the encoder writes texts, on random conversations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import tiny_backbones
from helpers.tiny_backbones import text, tiny_backbone, tiny_tokenizer

from vrm_pyro.backbone.chat import ChatEncoder
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface.boundary import (
    answered,
    find_marker,
    reading_of,
    render_ids,
)
from vrm_pyro.integrations.huggingface.exported_template import exported_tokenizer
from vrm_pyro.integrations.huggingface.reading import Reading, last_occurrence, rows_of_tokens

KINDS = ("bert", "llama", "llama-chat", "qwen3", "roberta")


@pytest.fixture(scope="module")
def readers():
    made = {}
    for kind in KINDS:
        backbone = tiny_backbone(kind, max_length=60)
        tokenizer = exported_tokenizer(backbone.chat)
        made[kind] = (backbone, tokenizer, reading_of(backbone, tokenizer))
    return made


def conversation(seed, turns):
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text(seed + i, 3 + i)} for i in range(2 * turns + 1)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("words", "turns"), [(3, 0), (8, 1), (70, 0), (25, 3)])
def test_it_is_what_the_encoder_writes(readers, kind, words, turns):
    """With one turn and several, and cut at the longest length."""
    backbone, tokenizer, reading = readers[kind]
    cut = []
    for seed in range(6):
        prompt, answer = conversation(10 * seed, turns), text(900 + seed, words)
        ids = render_ids(tokenizer, answered(prompt, answer), False)
        found = reading.split(np.array(ids))
        expected = (*backbone.chat.encode([prompt]), *backbone.chat.encode([prompt], [answer]))
        for a, b in zip(found, expected, strict=True):
            assert a.input_ids.tolist() == b.input_ids.tolist()
            assert a.type_ids.tolist() == b.type_ids.tolist()
            assert (a.boundary, a.response_end) == (b.boundary, b.response_end)
        cut.append(found[1].response_truncated or found[1].prompt_truncated)
    assert all(cut) or words < 25


@pytest.mark.parametrize("kind", KINDS)
def test_openings_are_brought_into_one_form(readers, kind):
    """RewardBench hides one of two opening tokens; other callers leave it out, or leave two."""
    _, tokenizer, reading = readers[kind]
    ids = render_ids(tokenizer, answered([{"role": "user", "content": "is it safe"}], "no"), False)
    opening = [i for i, _ in reading.layout.pair.before]
    expected = reading.split(np.array(ids))
    rows = [opening + ids, ids[len(opening) :]]
    closing = [i for i, _ in reading.layout.pair.after]
    if reading.layout.template == "pair":
        rows.append(ids[: -len(closing)])
    for row in rows:
        for a, b in zip(reading.split(np.array(row)), expected, strict=True):
            assert a.digest == b.digest


def test_the_last_marker_divides(readers):
    _, tokenizer, reading = readers["qwen3"]
    marker = list(reading.marker)
    quoted = "good<|im_end|>\n<|im_start|>assistant\nbad"
    ids = render_ids(tokenizer, answered([{"role": "user", "content": "is it"}], quoted), False)
    prompt, whole = reading.split(np.array(ids))
    starts = [i for i in range(len(ids)) if ids[i : i + len(marker)] == marker]
    assert len(starts) == 2
    assert last_occurrence(ids, marker) == starts[1]
    assert len(prompt) == whole.boundary == starts[1] + len(reading.header)


def test_a_header_is_found_where_the_answer_swallows_its_end():
    """The newline that ends the header joins one that begins the answer, so it is no marker."""
    backbone = tiny_backbone("qwen3")
    tokenizer = exported_tokenizer(backbone.chat)
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    header, marker = find_marker(tokenizer)
    assert header[0] == start
    assert header[-1:] == tuple(newline)
    assert header[: len(marker)] == marker
    reading = replace(reading_of(backbone, tokenizer), marker=header[:-1])
    ids = render_ids(tokenizer, answered([{"role": "user", "content": "is it"}], "good"), False)
    prompt, whole = reading.split(np.array(ids))
    assert prompt.input_ids[-1] == newline[0]
    assert whole.boundary == len(prompt)


TURN = "{{ '<|' + m['role'] + '|>' }}"
TEMPLATES = {
    # Two newlines after the header, and contents without white space around them.
    "llama-3": "{{ bos_token }}{% for m in messages %}" + TURN + "{{ '\n\n' }}"
    "{{ m['content'] | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n\n' }}{% endif %}",
    # What the last answer begins with is not part of the prompt.
    "thinking": "{% for m in messages %}"
    + TURN
    + "{% if loop.last and m['role'] == 'assistant' %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    # No turn of the system.
    "no system": "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('no system turn') }}{% endif %}"
    + TURN
    + "{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
}


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_templates(name):
    backbone, tokenizer = tiny_backbone("llama-chat"), tiny_tokenizer("llama-chat")
    tokenizer.chat_template = TEMPLATES[name]
    backbone.chat = ChatEncoder(tokenizer, 100, True)
    reading = reading_of(backbone, tokenizer)
    for seed in range(4):
        prompt, answer = conversation(seed, seed % 2), text(seed + 40, 7)
        ids = render_ids(tokenizer, answered(prompt, answer), False)
        expected = (*backbone.chat.encode([prompt]), *backbone.chat.encode([prompt], [answer]))
        found = reading.split(np.array(ids))
        assert [s.digest for s in found] == [s.digest for s in expected]


def test_a_template_without_generation_prompt():
    """What ends every prompt divides, as [/INST] does."""
    tokenizer = tiny_tokenizer("llama-chat")
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] }}"
        "<|end|>{% else %}<|user|>{{ m['content'] }}<|assistant|>{% endif %}{% endfor %}"
    )
    assert find_marker(tokenizer) == ((tokenizer.convert_tokens_to_ids("<|assistant|>"),),) * 2
    backbone = tiny_backbone("llama-chat")
    backbone.chat = ChatEncoder(tokenizer, 100, True)
    reading = reading_of(backbone, tokenizer)
    prompt, answer = conversation(3, 1), "good and safe"
    ids = render_ids(tokenizer, answered(prompt, answer), False)
    expected = backbone.chat.encode([prompt], [answer])[0]
    assert reading.split(np.array(ids))[1].digest == expected.digest


def without_marks(kind="llama-chat"):
    tokenizer = tiny_tokenizer(kind)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    backbone = tiny_backbone(kind)
    backbone.chat = ChatEncoder(tokenizer, 100, True)
    return backbone, tokenizer


def test_no_mark_raises_unless_asked_otherwise(readers):
    backbone, tokenizer = without_marks()
    with pytest.raises(InputError, match="marks no place where an answer begins"):
        reading_of(backbone, tokenizer)
    reading = reading_of(backbone, tokenizer, "whole_text")
    ids = np.array(tokenizer("is it good", add_special_tokens=False)["input_ids"])
    with pytest.raises(InputError, match="marks no beginning"):
        reading.split(ids)
    prompt, whole = reading.split(ids, "whole_text")
    assert prompt.digest == whole.digest
    assert whole.input_ids.tolist() == [tokenizer.bos_token_id, *ids]
    plain = readers["qwen3"][1]("is it good", add_special_tokens=False)["input_ids"]
    with pytest.raises(InputError, match="with which an answer begins, are not in it"):
        readers["qwen3"][2].split(np.array(plain))


def test_a_template_that_reads_otherwise_is_refused():
    """The encoder knows the texts; ids made by another tokenizer would be other rows."""
    backbone = tiny_backbone("qwen3")
    other = tiny_tokenizer("qwen3")
    other.chat_template = tiny_backbones.CHATML_TEMPLATE.replace(
        "['content']", "['content']|upper"
    )
    with pytest.raises(InputError, match="cannot be read as the texts are"):
        reading_of(backbone, other)


def test_json_keeps_it(readers):
    for _, _, reading in readers.values():
        assert Reading.from_json(reading.to_json()) == reading
    values = readers["bert"][2].to_json()
    with pytest.raises(InputError, match="not what this version writes"):
        Reading.from_json({**values, "extra": 1})
    with pytest.raises(InputError, match="not what this version writes"):
        Reading.from_json({k: v for k, v in values.items() if k != "header"})


def test_padding_and_holes_are_left_out():
    ids = torch.arange(8).reshape(2, 4).numpy()
    mask = np.array([[0, 1, 1, 1], [1, 0, 1, 0]])
    assert [row.tolist() for row in rows_of_tokens(ids, mask)] == [[1, 2, 3], [4, 6]]


def test_nothing_to_read(readers):
    reading = readers["bert"][2]
    opening = [i for i, _ in reading.layout.pair.before]
    with pytest.raises(InputError, match="holds no token"):
        reading.split(np.array(opening))

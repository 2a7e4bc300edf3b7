import datetime

import pytest
from helpers.chat_families import FAMILIES, RESPONSES, family_tokenizer
from helpers.tiny_backbones import tiny_backbone, tiny_tokenizer

from vrm_pyro.backbone.chat import ChatEncoder
from vrm_pyro.backbone.reading import ReadingSettings
from vrm_pyro.backbone.template import fixed, prelude_settings, without_prelude
from vrm_pyro.data.turns import read_answer
from vrm_pyro.errors import InputError

DATED = ("gpt-oss", "llama3.2")
DAY = datetime.date(2025, 3, 9)


def encoder(name, **settings):
    return ChatEncoder(family_tokenizer(name), 2000, True, ReadingSettings(**settings))


@pytest.mark.parametrize("name", DATED)
def test_a_template_that_writes_the_date_writes_the_fixed_one(name):
    chat = encoder(name, date=DAY.isoformat())
    text = chat.chat_template.render([{"role": "user", "content": "Is it?"}])
    assert {"gpt-oss": "2025-03-09", "llama3.2": "09 Mar 2025"}[name] in text
    assert f"{datetime.date.today():%Y}" not in text
    # A saved tokenizer keeps it, and so does one that is loaded as a backbone's.
    tokenizer = chat.fixed_tokenizer()
    turns = [{"role": "user", "content": "Is it?"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == text
    again = ChatEncoder(tokenizer, 2000, True)
    assert again.settings.date == "2025-03-09"
    assert again.template_hash == chat.template_hash
    assert again.encode(["Is it?"])[0].digest == chat.encode(["Is it?"])[0].digest
    assert chat.tokenizer.chat_template == family_tokenizer(name).chat_template


def test_the_date_is_a_part_of_the_key_where_it_is_written():
    backbone = tiny_backbone("llama-chat")
    assert backbone.settings.date is None
    assert "date" not in backbone.with_settings(ReadingSettings("2025-03-09")).key()
    backbone.chat = encoder("gpt-oss")
    assert backbone.key()["date"] == datetime.date.today().isoformat()
    assert backbone.with_settings(ReadingSettings("2025-03-09")).key()["date"] == "2025-03-09"
    assert "reasoning" not in backbone.key()
    assert backbone.with_settings(ReadingSettings(None, "strip")).key()["reasoning"] == "strip"


def test_directives_of_dates():
    formats = "%d.%m.%y %B %-d|%A"
    template = "{{ strftime_now('" + formats + "') }}"
    tokenizer = tiny_tokenizer("llama-chat")
    tokenizer.chat_template = fixed(template, DAY.isoformat())
    turns = [{"role": "user", "content": "a"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == DAY.strftime(formats)
    assert without_prelude(tokenizer.chat_template) == template
    assert fixed(tokenizer.chat_template, None) == template
    assert prelude_settings(tokenizer.chat_template) == {"date": "2025-03-09"}
    assert prelude_settings(template) == {}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_ids_are_those_of_the_whole_text(name):
    """Whoever renders a conversation and tokenizes it in one piece gets these ids."""
    chat = encoder(name)
    answers = [read_answer(r) for r in RESPONSES]
    for found, response in zip(
        chat.encode(["What is 2 + 2?"] * len(answers), answers), RESPONSES, strict=True
    ):
        turns = [{"role": "user", "content": "What is 2 + 2?"}]
        answer = {"role": "assistant", "content": response}
        if not isinstance(response, str):
            (answer,) = response
            if isinstance(answer["content"], list):
                answer = {**answer, "content": "4: four"}
        whole = chat.tokenizer.apply_chat_template([*turns, answer], tokenize=False)
        expected = chat.tokenizer(whole, add_special_tokens=False)["input_ids"]
        assert found.input_ids.tolist()[-len(expected) :] == expected


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("r1-distill", "<|Assistant|>"),
        ("deepseek-v3", "<|Assistant|>"),
        ("nemotron", "<SPECIAL_11>Assistant\n"),
        ("qwen3-thinking", "<|im_start|>assistant\n<think>\n"),
        ("qwen3", "<|im_start|>assistant\n"),
        ("mistral", "[/INST]"),
    ],
)
def test_prompts_end_where_answers_begin(name, end):
    """A generation prompt may open what finished conversations do not have."""
    chat = encoder(name)
    (alone,) = chat.encode(["What is 2 + 2?"])
    assert chat.tokenizer.decode(alone.input_ids).endswith(end)
    several = chat.encode(["What is 2 + 2?"] * 3, RESPONSES[:1] * 2 + RESPONSES[2:3])
    for found in several:
        shared = min(found.boundary, len(alone))
        assert found.input_ids[:shared].tolist() == alone.input_ids[:shared].tolist()


def test_stripped_reasoning_is_as_if_it_was_never_there():
    chat = encoder("qwen3", reasoning="strip")
    kept = encoder("qwen3")
    earlier = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>why</think>b", "reasoning_content": "so"},
        {"role": "user", "content": "c"},
    ]
    plain = [earlier[0], {"role": "assistant", "content": "b"}, earlier[2]]
    thought = {"role": "assistant", "content": "d", "reasoning_content": "because"}
    found = chat.encode([earlier] * 2, [read_answer(thought), "<think>\nx\n</think>\n\nd"])
    expected = kept.encode([plain], ["d"])[0].digest
    assert [s.digest for s in found] == [expected] * 2
    assert kept.encode([plain], [read_answer(thought)])[0].digest != expected


def test_an_odd_beginning_belongs_to_the_response():
    chat = encoder("qwen2.5")
    prompt, plain, odd = (
        *chat.encode(["a"]),
        *chat.encode(["a", "a"], ["b", "\n\nb"]),
    )
    assert plain.boundary == len(prompt)
    assert odd.boundary <= len(prompt)


@pytest.mark.parametrize("day", ["today", "2025-13-01", "9.3.2025"])
def test_wrong_settings_are_refused(day):
    with pytest.raises(InputError, match="YYYY-MM-DD"):
        ReadingSettings(day)

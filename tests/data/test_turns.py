import pickle

import pytest

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.rows import load_table
from vrm_pyro.data.rows.builder import prompt_key
from vrm_pyro.data.turns import (
    Answer,
    answer_turn,
    for_template,
    read_answer,
    read_messages,
    without_reasoning,
)

USER = {"role": "user", "content": "Weather in Rome?"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"a": None, "b": 1}}}


def calling(arguments):
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [USER, {"role": "assistant", "content": None, "tool_calls": [call]}]


def test_arguments_as_json_text_are_those_of_an_object():
    expected = read_messages(calling({"city": "Rome"}))
    assert read_messages(calling('{"city": "Rome", "unit": null}')) == expected
    assert expected[1]["content"] == ""
    # What is no object stays as it is.
    assert read_messages(calling("Rome"))[1]["tool_calls"][0]["function"]["arguments"] == "Rome"


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "system", "content": None}, USER],
        [{**USER, "content": [{"type": "text", "text": "Weather "}, "in Rome?"]}],
        [{**USER, "content": ({"type": "text", "text": "Weather in Rome?", "image": None},)}],
    ],
)
def test_forms_of_one_conversation(turns):
    assert read_messages(turns) == [USER]


def test_reading_again_changes_nothing():
    turns = [
        {"role": "developer", "content": ""},
        *calling('{"city": "Rome"}'),
        {"role": "tool", "content": "21", "name": "f", "tool_call_id": "1"},
        {"role": "assistant", "content": "It is 21.", "thinking": "Look."},
        USER,
    ]
    once = read_messages(turns, "prompt", [TOOL], {"enable_thinking": False, "none": None})
    assert read_messages(once) == once
    plain, tools, variables = for_template(once)
    assert tools == [{"type": "function", "function": {"name": "f", "parameters": {"b": 1}}}]
    assert variables == {"enable_thinking": False}
    assert plain[0] == turns[0]
    assert plain[4]["reasoning_content"] == "Look."


def test_tools_and_variables_make_another_prompt():
    keys = {
        prompt_key(read_messages("Hi", "prompt", tools, variables))
        for tools in (None, [TOOL])
        for variables in (None, {"enable_thinking": False})
    }
    assert len(keys) == 4
    texts = {"tools": '[{"type": "function"}]', "chat_template_kwargs": '{"n": 1}'}
    row = {"prompt": "Hi", "response": "Hello"}
    (prompt,) = load_table([{**row, **texts}]).prompts
    assert prompt == read_messages("Hi", "prompt", [{"type": "function"}], {"n": 1})
    assert load_table([{**row, "tools": [], "chat_template_kwargs": {}}]).prompts == [
        read_messages("Hi")
    ]


@pytest.mark.parametrize(
    ("prompt", "more", "words"),
    [
        ([{**USER, "content": [{"type": "image", "url": "a.png"}]}], {}, "Images"),
        ([{**USER, "content": "a\0b"}], {}, "NUL"),
        ("a\ud800", {}, "surrogate"),
        ([{"role": "us\0er", "content": "a"}], {}, "NUL"),
        (calling({"city": "\udc00"}), {}, "surrogate"),
        ("a", {"tools": "look"}, "no list of objects"),
        ("a", {"tools": [{"name": "a\0"}]}, "NUL"),
        ("a", {"template_kwargs": {"add_generation_prompt": True}}, "no variable"),
        ("a", {"template_kwargs": [1]}, "must be an object"),
    ],
)
def test_what_cannot_be_read_is_a_problem(prompt, more, words):
    with pytest.raises(RowProblem, match=words):
        read_messages(prompt, **more)


@pytest.mark.parametrize("column", ["id", "subset", "source", "ratings", "response"])
@pytest.mark.parametrize("broken", ["a\ud83d", "a\0"])
def test_broken_names_are_invalid_rows(column, broken):
    value = {broken: 1} if column == "ratings" else broken
    row = {"prompt": "a", "response": "b", "ratings": {"help": 1}, column: value}
    report = load_table([row, {"prompt": "a", "response": "c"}], skip_invalid=True).report
    assert report.invalid == {"broken text": 1}


def test_reasoning_of_a_response():
    message = {"role": "assistant", "content": "It is 4.", "reasoning": "2 and 2."}
    answer = read_answer(message)
    assert answer == "<think>\n2 and 2.\n</think>\n\nIt is 4."
    turn = {"role": "assistant", "content": "It is 4.", "reasoning_content": "2 and 2."}
    assert answer_turn(answer) == turn
    assert read_answer(answer) is answer
    copied = pickle.loads(pickle.dumps(answer))
    assert answer_turn(copied) == turn
    table = load_table([{"prompt": "2 + 2?", "response": [message]}])
    (found,) = table.responses
    assert isinstance(found, Answer)
    plain = load_table([{"prompt": "2 + 2?", "response": str(answer)}])
    assert plain.responses == table.responses
    assert plain.content_hash() != table.content_hash()  # a template gets other turns


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("4", "4"),
        ("<think>\n2\n</think>\n\n4", "4"),
        ("2 and 2</think>4", "4"),  # a policy continued an opened part
        ("<think>2 and", ""),
        ("<think>a</think>b<think>c</think>d", "d"),
        (Answer.of("4", "2"), "4"),
    ],
)
def test_reasoning_is_left_out(text, left):
    assert without_reasoning(text) == left
    assert type(without_reasoning(text)) is str

import random

import pytest

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.rows.builder import prompt_key
from vrm_pyro.data.rows.conversation import (
    check_prompt,
    check_response,
    split_conversations,
    split_texts,
)


def turn(role, content):
    return {"role": role, "content": content}


def trl_cut(chosen, rejected):
    """Where TRL's `extract_prompt` cuts, as it is described: a loop over elements."""
    for index in range(min(len(chosen), len(rejected))):
        if chosen[index] != rejected[index]:
            return index - 1 if chosen[index - 1] == " " else index
    return index


def test_text_cut_is_that_of_trl_on_random_texts():
    letters, compared = random.Random(0), 0
    for _ in range(2000):
        shared = "".join(letters.choices("ab ", k=letters.randint(1, 6)))
        chosen, rejected = (
            "x" + shared + "".join(letters.choices("ab ", k=letters.randint(1, 4))) for _ in "ab"
        )
        expected = trl_cut(chosen, rejected)
        prompt, first, second, _ = split_texts(chosen, rejected)
        assert (prompt, first, second) == (
            chosen[:expected],
            chosen[expected:],
            rejected[expected:],
        )
        compared += chosen != rejected
    assert compared > 1000


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "inside_word"),
    [
        ("The sky is blue.", "The sky is green.", "The sky is", False),
        ("The sky is blue.", "The sky is black.", "The sky is bl", True),
        ("Q: why?\nA: Rain", "Q: why?\nA: Snow", "Q: why?\nA:", False),
        ("Go on", "Go one", "Go o", True),
    ],
)
def test_cut_inside_a_word_is_noticed(chosen, rejected, prompt, inside_word):
    assert split_texts(chosen, rejected)[0] == prompt
    assert split_texts(chosen, rejected)[3] is inside_word


def test_long_texts_are_cut_quickly_at_the_right_place():
    shared = "word " * 40_000
    assert split_texts(shared + "yes", shared + "no")[0] == shared[:-1]


def test_conversations_share_their_first_turns():
    shared = [turn("system", "Be brief."), turn("user", "Sky?")]
    blue, green = turn("assistant", "Blue."), turn("assistant", "Green.")
    assert split_conversations([*shared, blue], [*shared, green]) == (shared, [blue], [green])
    # equal conversations keep their last turn as the response, so that they count as identical
    assert split_conversations([*shared, blue], [*shared, blue]) == (shared, [blue], [blue])


def test_conversations_without_a_shared_turn_are_refused():
    with pytest.raises(RowProblem, match='Add a "prompt"'):
        split_conversations([turn("user", "a")], [turn("user", "b")])


def test_text_prompt_is_one_user_message():
    assert check_prompt("Hello") == [turn("user", "Hello")]


def test_messages_keep_role_and_content():
    message = {"role": "user", "content": "Hi", "name": "Ann", "tool_calls": None}
    assert check_prompt([turn("system", "s"), message]) == [
        turn("system", "s"),
        turn("user", "Hi"),
    ]


CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"word": "sky"}}}
RESULT = {"role": "tool", "content": "blue", "name": "look_up", "tool_call_id": "1"}


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}])
def test_turns_that_call_tools_keep_their_calls(content):
    filled = {**CALL, "id": None, "function": {**CALL["function"], "description": None}}
    calling = {"role": "assistant", "tool_calls": [filled], **content}
    found = check_prompt([turn("user", "Hi"), calling, {**RESULT, "tool_calls": None}])
    assert found[1:] == [{"role": "assistant", "content": "", "tool_calls": [CALL]}, RESULT]


def test_prompts_with_other_calls_are_other_prompts():
    calling = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    plain = [turn("user", "Hi"), turn("assistant", "x"), turn("user", "so?")]
    keys = {
        prompt_key(check_prompt([turn("user", "Hi"), called, RESULT]))
        for called in (calling, {**calling, "tool_calls": [CALL, CALL]})
    }
    assert len(keys) == 2
    assert prompt_key(plain) == '[["user", "Hi"], ["assistant", "x"], ["user", "so?"]]'


def test_wrong_calls_of_tools_are_refused():
    wrong = {"role": "assistant", "content": "", "tool_calls": "look_up()"}
    with pytest.raises(RowProblem, match=r"prompt\[0\].tool_calls.*is no list of objects"):
        check_prompt([wrong, RESULT])
    with pytest.raises(RowProblem, match='"chosen" calls tools'):
        check_response([{"role": "assistant", "content": "x", "tool_calls": [CALL]}], "chosen")
    with pytest.raises(RowProblem, match="is empty"):
        check_prompt([turn("user", "")])


def test_response_message_is_its_text():
    assert check_response([turn("assistant", " Yes.\n")], "chosen") == " Yes.\n"
    with pytest.raises(RowProblem, match="one assistant message"):
        check_response([turn("user", "Yes.")], "chosen")

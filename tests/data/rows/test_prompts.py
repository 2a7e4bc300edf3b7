"""Nothing of a row is read by guess."""

import json

import pytest

from vrm_pyro.data.rows import load_table
from vrm_pyro.errors import InputError

PAIR = {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}
ASK = {"role": "user", "content": "Sky?"}
BLUE = {"role": "assistant", "content": "Blue."}
GREEN = {"role": "assistant", "content": "Green."}


def refusal(*rows, **options):
    with pytest.raises(InputError) as caught:
        load_table(list(rows), **options)
    return str(caught.value)


@pytest.mark.parametrize("name", ["question", "input", "query", "context", "conversations"])
def test_texts_without_a_prompt_name_the_likely_column(name):
    message = refusal({name: "Sky?", "chosen": "The sea.", "rejected": "The sky."})
    assert f'"{name}" looks like it' in message
    assert f"--data.columns prompt={name}" in message


def test_refusal_shows_columns_nearest_schema_and_a_row():
    row = {"history": "Sky?", "human_ref_A": "Blue.", "human_ref_B": "Green."}
    message = refusal(row, row)
    assert message.count("columns: history, human_ref_A, human_ref_B") == 1
    assert 'nearest schema: shp, which also needs "labels"' in message
    assert '"human_ref_A": "Blue."' in message
    assert "row as read" in refusal(row, row, skip_invalid=True)


def test_refusal_of_a_broken_name_can_be_printed():
    refusal({"a\ud83d": 1, "chosen": "x"}).encode("utf-8")


def test_no_advice_from_similar_names():
    message = refusal({"prompt": "Sky?", "model_a": "gpt", "model_b": "llama", "winner": "tie"})
    assert "Rename" not in message


def test_lists_that_pandas_printed_are_invalid(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(
        "prompt,chosen,rejected\n\"[{'role': 'user', 'content': 'Hi'}]\",a,b\n",
        encoding="utf-8",
    )
    with pytest.raises(InputError, match="as Python or pandas prints it, not JSON"):
        load_table(path)
    printed = str([ASK, BLUE]), str([ASK, GREEN])
    assert "pandas prints it" in refusal({"chosen": printed[0], "rejected": printed[1]})


@pytest.mark.parametrize("prompt", ["Sky?", [ASK]])
def test_system_column_is_the_first_turn(prompt):
    row = {**PAIR, "prompt": prompt, "system": "Be brief."}
    table = load_table([row])
    assert table.prompts == [[{"role": "system", "content": "Be brief."}, ASK]]
    whole = {"chosen": [ASK, BLUE], "rejected": [ASK, GREEN], "system": "Be brief."}
    assert load_table([whole]).prompts == table.prompts
    for empty in ("", None):
        assert load_table([{**row, "system": empty}]).prompts == [[ASK]]


def test_system_column_must_not_contradict_the_prompt():
    said = [{"role": "system", "content": "Be brief."}, ASK]
    same = load_table([{**PAIR, "prompt": said, "system": "Be brief."}])
    assert len(same.prompts[0]) == 2
    message = refusal({**PAIR, "prompt": said, "system": "Be long."})
    assert '"prompt" begins with another system turn' in message


def test_text_prompt_must_be_in_the_conversations():
    whole = {"chosen": [ASK, BLUE], "rejected": [ASK, GREEN]}
    for prompt in ("Sky?", "User: Sky?", " Sky? "):
        assert load_table([{**whole, "prompt": prompt}]).prompts == [[ASK]]
    message = refusal({**whole, "prompt": "Sea?"})
    assert "\"prompt\" is 'Sea?', which is nowhere in the conversations" in message
    other = [{"role": "user", "content": "Sea?"}]
    message = refusal({**whole, "prompt": other})
    assert (
        '"chosen" is a conversation that does not begin with the messages of "prompt"' in message
    )


def test_nan_labels_are_absent(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**PAIR, "id": float("nan"), "subset": float("nan")}) + "\n")
    table = load_table(path)
    assert (table.pair_id, table.pair_subset) == ([None], [None])


@pytest.mark.parametrize(
    "prompt",
    ["<|im_start|>user\nSky?<|im_end|>", "[INST] Sky? [/INST]", "\n\nHuman: Sky?\n\nAssistant:"],
)
def test_prompts_in_a_template_are_counted_in_a_warning(prompt):
    with pytest.warns(UserWarning, match="1 rows have a prompt that already holds the markers"):
        table = load_table([{"prompt": prompt, "response": "Blue."}])
    assert table.report.templated_prompts == 1
    assert "1 prompts already in a chat template" in table.report.summary()


def test_numbers_in_columns_that_nothing_uses_are_counted_by_name():
    rows = [{**PAIR, "helpfulness_chosen": 4, "note": "x"}, {**PAIR, "helpfulness_chosen": "3"}]
    report = load_table(rows).report
    assert report.unused_columns == {"helpfulness_chosen": 2}
    assert report.summary().endswith("number columns ignored: helpfulness_chosen (2)")
    assert report.as_dict()["unused_columns"] == {"helpfulness_chosen": 2}

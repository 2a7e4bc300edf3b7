import pytest

from vrm_pyro.data.rows import ReadAs, load_table
from vrm_pyro.data.schemas.own_columns import OwnColumns
from vrm_pyro.errors import InputError

ROW = {
    "q": {"text": "Sky?", "by": [{"name": "Ann"}]},
    "good": "Blue.",
    "bad": "Green.",
    "t1": "5",
    "t2": 1,
    "n": 2,
    "response": "a column of another meaning",
}
COLUMNS = {
    "prompt": "q.text",
    "chosen": "good",
    "rejected": "bad",
    "chosen_rating.truth": "t1",
    "rejected_rating.truth": "t2",
    "weight": "n",
    "source": "q.by.0.name",
    "subset": "response",
}
TEXT = ",".join(f"{target}={source}" for target, source in COLUMNS.items())


@pytest.mark.parametrize("columns", [COLUMNS, TEXT], ids=["mapping", "text"])
def test_own_columns_are_read_with_nested_fields_and_ratings(columns):
    table = load_table([ROW], columns=columns)
    assert table.prompts == [[{"role": "user", "content": "Sky?"}]]
    assert table.responses == ["Blue.", "Green."]
    assert (table.objectives, table.ratings.ravel().tolist()) == (("truth",), [5, 1])
    assert (table.pair_weight.tolist(), table.pair_source) == ([2.0], ["Ann"])
    assert table.pair_subset == ["a column of another meaning"]
    assert table.report.unused_columns == {}


def test_columns_of_rows_that_are_not_named_are_read_as_they_are():
    rows = [{"question": "Sky?", "response": "Blue.", "helpfulness": 4, "clarity": 2}]
    table = load_table(rows, columns="prompt=question,rating.helpfulness=helpfulness")
    assert table.responses == ["Blue."]
    assert table.objectives == ("helpfulness",)
    assert table.report.unused_columns == {"clarity": 1}


def test_columns_turn_schemas_off_and_read_messages_of_any_form():
    rows = [
        {
            "system": "Be brief.",
            "question": "Sky?",
            "chosen": {"from": "gpt", "value": "Blue."},
            "rejected": {"from": "gpt", "value": "Green."},
        }
    ]
    columns = {"prompt": "question", "chosen": "chosen", "rejected": "rejected"}
    table = load_table(rows, columns=columns)
    assert table.report.schemas == {}
    assert [turn["role"] for turn in table.prompts[0]] == ["system", "user"]
    assert table.responses == ["Blue.", "Green."]


def test_sources_of_one_table_may_be_read_in_two_ways():
    own = [{"q": "Sky?", "chosen": "Blue.", "rejected": "Green."}]
    table = load_table([ReadAs(own, columns="prompt=q"), {"prompt": "Sky?", "response": "Red."}])
    assert (table.num_prompts, table.responses) == (1, ["Blue.", "Green.", "Red."])


def test_columns_of_parquet_are_read_whatever_their_type(tmp_path):
    import datasets

    path = str(tmp_path / "rows.parquet")
    datasets.Dataset.from_list([ROW]).to_parquet(path)
    assert load_table(path, columns=TEXT).responses == ["Blue.", "Green."]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("prompt", "'prompt' is not of the form column=column"),
        ("prompt=", "prompt names no column"),
        ("", "is empty"),
        ({}, "is empty"),
        ("promt=q", "did you mean 'prompt'?"),
        ("prompt=a,prompt=b", "more than once"),
        ("prompt.x=a", "no column 'prompt.x'"),
    ],
)
def test_malformed_columns_are_refused(columns, words):
    with pytest.raises(InputError) as caught:
        OwnColumns.parse(columns)
    assert words in str(caught.value)


def test_a_missing_column_names_itself_and_shows_the_row():
    with pytest.raises(InputError) as caught:
        load_table([{"question": "Sky?", "chosen": "a", "rejected": "b"}], columns="prompt=q")
    message = str(caught.value)
    assert 'there is no column "q", which data.columns reads as "prompt"' in message
    assert "columns: question, chosen, rejected" in message
    assert 'row as read: {"question": "Sky?"' in message

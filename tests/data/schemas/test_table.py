"""Every published schema is found, oriented and rated right."""

import copy
import json

import pytest
from helpers.published import RHINE, ROWS, TABLE

from vrm_pyro.data.rows import load_table
from vrm_pyro.data.schemas.table import SCHEMAS, find_schema, nearest_schema
from vrm_pyro.errors import InputError

SINGLE = {"helpsteer2", "summarize_axis", "kto", "llamafactory_kto", "ms_swift_kto"}


def sides(table):
    return [
        (table.responses[first], table.responses[second])
        for first, second in zip(table.pair_first, table.pair_second, strict=True)
    ]


def rating_of(table, response, objective):
    return table.ratings[table.responses.index(response), table.objectives.index(objective)]


def test_every_schema_has_a_row_here():
    assert ROWS.keys() == SCHEMAS.keys()


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_schema_says_what_becomes_of_the_data(name):
    paragraphs = [part.split(":")[0] for part in SCHEMAS[name].text.strip().split("\n\n")]
    assert paragraphs[-4:] == ["Published", "Label", "Ratings", "Ties and strengths"]
    assert SCHEMAS[name].title


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_columns_of_a_published_row_are_known(name):
    unknown = ROWS[name].keys() - SCHEMAS[name].known - {"id", "subset", "source"}
    assert unknown <= {"additional_metadata"}


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_schema_is_found_with_and_without_further_columns(name):
    expected = name if SCHEMAS[name].automatic else "pku_saferlhf"
    assert find_schema(ROWS[name]) == expected
    more = find_schema({**ROWS[name], "_note": "of no matter"})
    assert more == (None if SCHEMAS[name].only else expected)


@pytest.mark.parametrize("name", sorted(SCHEMAS.keys() - SINGLE))
def test_better_response_is_the_chosen_one(name):
    table = load_table([ROWS[name]], schema=name)
    assert (RHINE, TABLE) in sides(table)
    assert TABLE not in [first for first, _ in sides(table)]
    assert (table.preference > 0.5).all()
    assert table.report.schemas == {name: 1}
    size = 2 if table.num_pairs == 1 else table.num_responses
    assert table.pair_weight.sum() == pytest.approx(size - 1)


@pytest.mark.parametrize("name", sorted(SINGLE))
def test_single_responses_are_rated(name):
    table = load_table([ROWS[name]])
    assert (table.num_pairs, table.responses) == (0, [RHINE])
    assert table.has_ratings


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_prompt_ends_with_the_question(name):
    (prompt,) = load_table([ROWS[name]], schema=name).prompts
    assert prompt[-1]["role"] == "user"
    assert "Name a river." in prompt[-1]["content"]


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_schema_survives_json_lines_and_parquet(name, tmp_path):
    import datasets

    expected = load_table([ROWS[name]], schema=name)
    lines = tmp_path / "rows.jsonl"
    lines.write_text(json.dumps(ROWS[name]) + "\n", encoding="utf-8")
    assert load_table(lines, schema=name).content_hash() == expected.content_hash()
    found = datasets.Dataset.from_list([ROWS[name]])
    assert load_table(found, schema=name).content_hash() == expected.content_hash()


@pytest.mark.parametrize(
    ("name", "objective", "good", "bad"),
    [
        ("ultrafeedback", "helpfulness", 5, 1),
        ("ultrafeedback_binarized", "score", 8, 3.5),
        ("argilla_ratings", "rating", 5, 1),
        ("argilla_dashes", "rating", 4.75, 2),
        ("argilla_responses", "rating", 4.5, 2),
        ("capybara", "rating", 5, 2),
        ("rlhflow", "score", 9, 4),
        ("pku_saferlhf", "safe", 1, 0),
        ("orca_distilabel", "rating", 9, 3),
        ("prometheus", "criterion", 4, 2),
    ],
)
def test_ratings_go_with_their_response(name, objective, good, bad):
    table = load_table([ROWS[name]])
    assert rating_of(table, RHINE, objective) == good
    assert rating_of(table, TABLE, objective) == bad


def test_ratings_of_single_responses():
    table = load_table([ROWS["helpsteer2"], ROWS["kto"], ROWS["summarize_axis"]])
    assert rating_of(table, RHINE, "helpfulness") == 4
    assert rating_of(table, RHINE, "desirable") == 1
    assert table.report.summary().startswith("read as helpsteer2 (1), kto (1), summarize_axis (1)")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("ultrafeedback_binarized", {"score_rejected": 8.0}),
        ("argilla_dashes", {"rejected-rating": 4.75}),
        ("helpsteer2_preference", {"preference_strength": 0}),
        ("helpsteer3", {"overall_preference": 0}),
        ("arena", {"winner": "both_bad"}),
        ("arena", {"winner": "tie (bothbad)"}),
        ("arena_55k", {"winner_model_a": 0, "winner_tie": 1}),
        ("mt_bench", {"winner": "tie"}),
        ("orca_distilabel", {"status": "tie"}),
        ("webgpt", {"score_0": 0.0, "score_1": 0.0}),
        ("alpaca_farm", {"preference": 1.5}),
    ],
)
def test_ties_are_a_preference_of_a_half(name, changes):
    table = load_table([{**ROWS[name], **changes}])
    assert table.preference.tolist() == [0.5]


@pytest.mark.parametrize(("strength", "preference"), [(1, 4 / 6), (2, 5 / 6), (3, 1.0)])
def test_signed_strengths_are_grades(strength, preference):
    for sign, winner in ((1, "second"), (-1, "first")):
        row = {
            **ROWS["helpsteer2_preference"],
            "response_1": "first",
            "response_2": "second",
            "preference_strength": sign * strength,
        }
        table = load_table([row])
        assert sides(table)[0][0] == winner
        assert table.preference[0] == pytest.approx(preference)
        # grade l of 7 levels is written l / 6
        assert (table.preference[0] * 6) == pytest.approx(round(table.preference[0] * 6))


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("arena", {"winner": "nobody"}, "\"winner\" is 'nobody'"),
        ("arena_55k", {"prompt": '["a", "b"]'}, "has 2 turns"),
        ("arena_55k", {"winner_model_b": 1}, "2 of winner_model_a"),
        ("helpsteer2_preference", {"preference_strength": None}, '"preference_strength" is miss'),
        ("helpsteer2", {"helpfulness": "much"}, "\"helpfulness\" is 'much'"),
        ("alpaca_farm", {"preference": 3}, '"preference" is 3'),
        ("kto", {"label": "maybe"}, "\"label\" is 'maybe'"),
        ("nectar", {"answers": ["one"]}, '"answers[0]" has no "answer"'),
        ("shp", {"labels": 2}, '"labels" is 2'),
        ("mt_bench", {"turn": 2}, "messages"),
        ("ms_swift", {"messages": [{"role": "user", "content": "Hi"}]}, "must end with"),
    ],
)
def test_unusable_rows_name_the_schema_and_the_fault(name, changes, words):
    with pytest.raises(InputError) as caught:
        load_table([{**ROWS[name], **changes}])
    assert f"read as {name}: " in str(caught.value)
    assert words in str(caught.value)


JUNK = [None, "", "x", 3, -1.5, True, [], [1], [None], {}, {"a": 1}, [{"role": 3}], [[]]]


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_junk_in_a_column_is_an_invalid_row(name):
    """A schema raises nothing but the problem of a row, whatever a column holds."""
    rows = []
    for column, value in ROWS[name].items():
        for junk in JUNK:
            rows.append({**ROWS[name], column: junk})
            if isinstance(value, list) and value and isinstance(value[0], dict):
                for key in value[0]:
                    changed = copy.deepcopy(ROWS[name])
                    changed[column][0][key] = junk
                    rows.append(changed)
            if isinstance(value, dict):
                rows += [{**ROWS[name], column: {**value, key: junk}} for key in value]
    table = load_table([*rows, ROWS[name]], schema=name, skip_invalid=True)
    assert table.report.rows_read == len(rows) + 1
    assert sum(table.report.schemas.values()) + sum(table.report.invalid.values()) == len(rows) + 1


def test_null_columns_that_a_table_fills_in_do_not_change_the_schema():
    nulls = dict.fromkeys(("chosen", "rejected", "response", "responses", "label"))
    row = {**nulls, **ROWS["stack_exchange"]}
    assert find_schema(row) == "stack_exchange"
    own = {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}
    assert find_schema({**dict.fromkeys(ROWS["helpsteer2"]), **own}) is None


def test_rows_of_our_own_are_of_no_schema():
    own = {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green.", "id": "a", "source": "s"}
    assert find_schema(own) is None
    assert find_schema({"prompt": "Sky?", "response": "Blue.", "ratings": {"a": 1}}) is None
    assert find_schema({"prompt": "Sky?", "responses": ["a", "b"], "ranks": [1, 2]}) is None


def test_nearest_schema_shares_columns():
    assert nearest_schema(["history", "human_ref_A", "human_ref_B"]) == "shp"
    assert nearest_schema(["a", "b"]) is None

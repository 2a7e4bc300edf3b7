import pytest

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.rows.schema import Comparison, RatedResponse, close_name, parse_row

PAIR = {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}
ASK = [{"role": "user", "content": "Sky?"}]
BLUE = {"role": "assistant", "content": "Blue."}
GREEN = {"role": "assistant", "content": "Green."}


@pytest.mark.parametrize(
    "row",
    [
        PAIR,
        {**PAIR, "prompt": ASK},
        {"prompt": ASK, "chosen": [BLUE], "rejected": [GREEN]},
        {"prompt": "Sky?", "chosen": [BLUE], "rejected": [GREEN]},
        {"chosen": [*ASK, BLUE], "rejected": [*ASK, GREEN]},
        {"prompt": None, "chosen": [*ASK, BLUE], "rejected": [*ASK, GREEN]},
        {"prompt": "Sky?", "chosen": [*ASK, BLUE], "rejected": [*ASK, GREEN]},
        {"prompt": ASK, "chosen": [*ASK, BLUE], "rejected": [*ASK, GREEN]},
    ],
    ids=lambda row: "-".join(f"{key}:{type(value).__name__}" for key, value in row.items()),
)
def test_every_form_of_a_comparison_is_the_same(row):
    parsed = parse_row(row)
    assert isinstance(parsed, Comparison)
    assert (parsed.prompt, parsed.chosen, parsed.rejected) == (ASK, "Blue.", "Green.")
    assert (parsed.preference, parsed.weight) == (1.0, 1.0)
    assert not parsed.implicit_text


def test_implicit_prompt_of_plain_texts():
    parsed = parse_row({"chosen": "The sky is blue.", "rejected": "The sky is green."})
    assert parsed.implicit_text
    assert not parsed.cut_inside_word
    assert parsed.prompt == [{"role": "user", "content": "The sky is"}]
    assert (parsed.chosen, parsed.rejected) == (" blue.", " green.")


def test_all_optional_columns_of_a_comparison():
    parsed = parse_row(
        {
            **PAIR,
            "chosen_ratings": {"truth": 1, "tone": None, "ok": True, "bad": False},
            "rejected_ratings": '{"truth": 0.5}',
            "preference": 0,
            "weight": 2,
            "margin": 0.3,
            "id": 7,
            "subset": "weather",
            "model": ["ignored"],
        }
    )
    assert parsed.chosen_ratings == {"truth": 1.0, "ok": 1.0, "bad": 0.0}
    assert parsed.rejected_ratings == {"truth": 0.5}
    assert (parsed.preference, parsed.weight, parsed.margin) == (0.0, 2.0, 0.3)
    assert parsed.labels == {"id": "7", "subset": "weather", "source": None}


@pytest.mark.parametrize("ratings", [{"truth": 4}, {}, {"truth": None}, None])
def test_single_response_with_or_without_ratings(ratings):
    parsed = parse_row({"prompt": "Sky?", "response": "Blue.", "ratings": ratings, "chosen": None})
    assert isinstance(parsed, RatedResponse)
    assert parsed.ratings == ({"truth": 4.0} if ratings == {"truth": 4} else {})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("choosen", "chosen"),
        ("Chosen", "chosen"),
        ("chosen ratings", "chosen_ratings"),
        ("chosen_rating", "chosen_ratings"),
        ("rejeced", "rejected"),
        ("prompts", "prompt"),
        ("wieght", "weight"),
        ("preferance", "preference"),
        ("prompt_id", None),
        ("response_id", None),
        ("rejected_id", None),
        ("chosen_score", None),
        ("chosen_model", None),
        ("score_chosen", None),
        ("messages", None),
        ("model", None),
    ],
)
def test_near_misses_of_column_names(name, meant):
    columns = ("prompt", "chosen", "rejected", "response", "ratings", "chosen_ratings")
    assert close_name(name, (*columns, "rejected_ratings", "preference", "weight")) == meant


@pytest.mark.parametrize(
    "extra", ["prompt_id", "responses", "rating", "chosen_score", "response_a", "messages"]
)
def test_columns_that_mean_nothing_here_are_ignored(extra):
    # beside a whole comparison, "rating" and "responses" belong to somebody else's schema
    assert parse_row({**PAIR, extra: [1, 2]}) == parse_row(PAIR)


def test_correct_column_beside_a_similar_one_is_fine():
    assert parse_row({**PAIR, "weights": 5, "weight": 2}).weight == 2.0
    with pytest.raises(RowProblem, match='is it "weight"'):
        parse_row({**PAIR, "weights": 5})

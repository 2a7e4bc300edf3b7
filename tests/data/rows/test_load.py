import numpy as np
import pytest

from vrm_pyro.data.rows import load_table
from vrm_pyro.errors import InputError

PAIR = {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}


def pair(number, **columns):
    return {**PAIR, "prompt": f"Question {number}?", **columns}


def test_equal_prompts_and_responses_are_stored_once():
    rows = [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": [{"role": "user", "content": "p"}], "chosen": "b", "rejected": "c"},
        {"prompt": "q", "chosen": "a", "rejected": "c"},
        {"prompt": "p", "response": "c", "ratings": {"x": 1}, "id": "r1", "subset": "s"},
    ]
    table = load_table(rows)
    assert (table.num_prompts, table.num_responses, table.num_pairs) == (2, 5, 3)
    assert table.response_prompt.tolist() == [0, 0, 0, 1, 1]
    assert table.pair_prompt.tolist() == [0, 0, 1]
    assert table.responses == ["a", "b", "c", "a", "c"]
    assert table.response_id == [None, None, "r1", None, None]
    assert table.response_subset[2] == "s"
    np.testing.assert_array_equal(table.ratings[:, 0], [np.nan, np.nan, 1, np.nan, np.nan])


def test_identical_responses_are_dropped_and_counted():
    table = load_table([PAIR, {**PAIR, "rejected": "Blue."}, pair(1)])
    assert table.num_pairs == 2
    assert table.report.dropped == {"identical responses": 1}
    assert table.report.invalid == {}


def test_differing_ratings_are_averaged_and_copies_do_not_vote():
    rows = [
        {**PAIR, "chosen_ratings": {"x": value, "y": 2}, "rejected": f"Green {number}."}
        for number, value in enumerate([3, 5, 5, 4])
    ]
    table = load_table(rows)
    assert table.responses[0] == "Blue."
    assert table.ratings[0].tolist() == [4.0, 2.0]
    assert table.report.conflicting_ratings == 1
    assert load_table(rows, objectives=["y"]).report.conflicting_ratings == 0


def test_objectives_are_sorted_or_those_asked_for():
    rows = [pair(1, chosen_ratings={"tone": 1, "detail": 2, "unused": None})]
    table = load_table(rows)
    assert table.objectives == ("detail", "tone")
    assert table.ratings[0].tolist() == [2.0, 1.0]
    table = load_table(rows, objectives=["tone", "humour"])
    np.testing.assert_array_equal(table.ratings[0], [1.0, np.nan])
    assert table.report.ignored_objectives == ("detail",)
    assert table.report.absent_objectives == ("humour",)
    assert load_table([PAIR]).ratings.shape == (2, 0)


def test_misspelled_objective_is_an_error():
    rows = [pair(1, chosen_ratings={"tone": 1, "clarity": 2})]
    with pytest.raises(InputError, match='no row rates "claritty"; did you mean "clarity"'):
        load_table(rows, objectives=["tone", "claritty"])
    with pytest.raises(InputError, match="a name repeats"):
        load_table(rows, objectives=["tone", "tone"])


def test_list_of_bad_rows_is_capped_and_the_rest_counted_by_reason():
    rows = [pair(i, rejected="") for i in range(22)] + [pair(i, weight=-1) for i in range(3)]
    with pytest.raises(InputError) as caught:
        load_table([*rows, PAIR])
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("25 invalid rows of 26; ")
    assert lines[1].startswith("  rows[0]: ")
    assert len(lines) == 22
    assert lines[-1] == "  ... and 5 more (2 empty text, 3 bad weight)"


def test_skipped_rows_are_counted_by_reason():
    rows = [PAIR, {**PAIR, "chosen": ""}, pair(1, preference=2), pair(2, preference=-1)]
    table = load_table(rows, skip_invalid=True)
    assert table.num_pairs == 1
    assert table.report.invalid == {"empty text": 1, "bad preference": 2}
    assert table.report.summary() == (
        "4 rows read: 1 comparisons, 0 single responses; 1 invalid (empty text); "
        "2 invalid (bad preference)"
    )


def test_nothing_left_after_skipping_is_an_error():
    with pytest.raises(InputError) as caught:
        load_table([{**PAIR, "chosen": ""}], skip_invalid=True)
    assert "no usable row is left" in str(caught.value)
    assert 'rows[0]: "chosen" is empty' in str(caught.value)


def test_margins_are_counted():
    table = load_table([pair(1, margin=0.5), pair(2, margin=0), pair(3, margin=None)])
    np.testing.assert_array_equal(table.pair_margin, [0.5, 0, np.nan])
    assert (table.report.margins, table.report.margins_ignored) == (2, 0)


def test_prompts_cut_inside_a_word_are_counted_in_one_warning():
    rows = [
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
    ]
    with pytest.warns(UserWarning, match="1 rows without a prompt"):
        table = load_table(rows)
    assert table.report.cut_inside_word == 1
    assert [prompt[0]["content"] for prompt in table.prompts] == ["The sky is", "The sky is bl"]


def test_report_is_json_with_all_counts():
    report = load_table([PAIR]).with_report({"truncated responses": 3}).report.as_dict()
    assert (report["rows_read"], report["rows_kept"], report["truncated responses"]) == (1, 1, 3)


@pytest.mark.parametrize(
    ("name", "num_pairs"), [("wmt_darr", 1756), ("alpaca_eval", 1212), ("hh", 430)]
)
def test_every_row_of_a_real_set_is_valid(data_dir, name, num_pairs):
    table = load_table(data_dir / name / "test.jsonl.gz")
    assert table.num_pairs == table.report.rows_read == num_pairs


def test_comparisons_and_ratings_of_a_real_set_meet(data_dir):
    table = load_table(str(data_dir / "cohere_feedback" / "*test.jsonl.gz"))
    assert (table.report.comparisons, table.report.rated_responses) == (468, 268)
    # every response of the pairs is among the rated ones
    assert table.num_responses == 268
    assert not np.isnan(table.ratings).all(axis=1).any()
    assert sum(name.startswith("no_") for name in table.objectives) == 10

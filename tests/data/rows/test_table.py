import numpy as np
import pytest

from vrm_pyro.data.rows import concatenate, load_table
from vrm_pyro.errors import InputError


def make_table(num_prompts=4):
    """Prompt i has responses a, b, c and the pairs (a, b), (b, c); a and c are rated."""
    rows = []
    for number in range(num_prompts):
        prompt = f"prompt {number}"
        rows += [
            {
                "prompt": prompt,
                "chosen": "a",
                "rejected": "b",
                "chosen_ratings": {"x": number},
                "id": f"ab{number}",
                "subset": "even" if number % 2 == 0 else "odd",
            },
            {"prompt": prompt, "chosen": "b", "rejected": "c", "preference": 0.6, "weight": 3},
            {"prompt": prompt, "response": "c", "ratings": {"x": -number, "y": 1}},
        ]
    return load_table(rows)


def texts_of_pairs(table):
    return {
        (
            table.prompts[table.response_prompt[first]][0]["content"],
            table.responses[first],
            table.responses[second],
            float(preference),
        )
        for first, second, preference in zip(
            table.pair_first, table.pair_second, table.preference, strict=True
        )
    }


def test_selected_prompts_keep_what_belongs_to_them_in_the_order_asked_for():
    table = make_table()
    part = table.select_prompts([3, 1])
    assert [prompt[0]["content"] for prompt in part.prompts] == ["prompt 3", "prompt 1"]
    assert (part.num_responses, part.num_pairs) == (6, 4)
    assert texts_of_pairs(part) == {pair for pair in texts_of_pairs(table) if pair[0][-1] in "13"}
    assert part.pair_id == ["ab1", None, "ab3", None]
    assert part.pair_subset == ["odd", None, "odd", None]
    rated_a = part.ratings[part.pair_first[[0, 2]], 0]
    assert rated_a.tolist() == [1.0, 3.0]
    mask = np.array([False, True, False, True])
    assert texts_of_pairs(table.select_prompts(mask)) == texts_of_pairs(part)
    with pytest.raises(ValueError, match="repeats"):
        table.select_prompts([1, 1])


def test_rows_keep_their_order_and_names_in_any_selection():
    table = make_table()
    names = [
        name for i in range(4) for name in (f"ab{i}", f"pair-{3 * i + 1}", f"response-{3 * i + 2}")
    ]
    assert table.row_order.names == names
    assert table.select_prompts([3, 1]).row_order.names == [*names[3:6], *names[9:]]
    rated = ~np.isnan(table.ratings[:, 1])
    left = table.drop_responses(rated, "gone")
    assert left.row_order.names == [name for name in names if name[:2] == "ab"]
    assert left.pair_names == ["ab0", "ab1", "ab2", "ab3"]
    both = concatenate([table, table]).row_order
    assert both.names[12:] == [
        name if name[:2] == "ab" else f"{name.split('-')[0]}-{int(name.split('-')[1]) + 12}"
        for name in names
    ]
    assert both.response[12:].tolist() == both.response[:12].tolist()


def test_rows_that_can_only_be_scored_are_kept_when_asked():
    several = {"prompt": "p", "responses": ["a", "a", "b"], "id": "s"}
    same = {"prompt": "p", "chosen": "b", "rejected": "b"}
    table = load_table([several, same], every_row=True)
    assert table.row_order.response.tolist() == [0, 0, 1, -1]
    assert table.row_order.index.tolist() == [0, 1, 2, 0]
    assert (table.pair_first.tolist(), table.pair_second.tolist()) == ([1], [1])
    with pytest.raises(InputError, match='"ranks" is missing'):
        load_table([several])
    with pytest.raises(InputError, match="empty list"):
        load_table([{"prompt": "p", "responses": []}], every_row=True)


def test_dropped_pairs_are_counted_and_indices_stay_valid():
    table = make_table()
    mask = table.preference < 1
    left = table.drop_pairs(mask, "identical after truncation")
    assert left.report.dropped == {"identical after truncation": 4}
    assert left.responses == table.responses
    assert texts_of_pairs(left) == {pair for pair in texts_of_pairs(table) if pair[3] == 1}
    again = left.drop_pairs(np.array([True, False, False, False]), "identical after truncation")
    assert again.report.dropped == {"identical after truncation": 5}
    assert table.drop_pairs(np.zeros(8, dtype=bool), "nothing") is table


def test_dropping_all_pairs_is_an_error_unless_ratings_are_left():
    table = make_table()
    everything = np.ones(table.num_pairs, dtype=bool)
    assert table.drop_pairs(everything, "identical after truncation").num_pairs == 0
    unrated = load_table([{"prompt": "p", "chosen": "a", "rejected": "b"}])
    with pytest.raises(InputError, match="1 dropped \\(identical after truncation"):
        unrated.drop_pairs(np.ones(1, dtype=bool), "identical after truncation")


def test_counts_of_later_steps_add_up():
    table = make_table().with_report({"cut": 2}).with_report({"cut": 1, "other": 5})
    assert table.report.extra == {"cut": 3, "other": 5}
    assert table.report.rows_read == 12


BASE = {"prompt": "p", "chosen": "a", "rejected": "b", "chosen_ratings": {"x": 1.0}}


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "p "},
        {"prompt": [{"role": "system", "content": "p"}]},
        {"chosen": "A"},
        {"chosen": "b", "rejected": "a"},
        {"preference": 0.9},
        {"weight": 0.5},
        {"chosen_ratings": {"x": 2.0}},
        {"chosen_ratings": {"y": 1.0}},
        {"chosen_ratings": None, "rejected_ratings": {"x": 1.0}},
    ],
)
def test_hash_sees_every_change_of_content(change):
    assert load_table([BASE]).content_hash() != load_table([{**BASE, **change}]).content_hash()


def test_hash_is_stable_and_blind_to_labels_and_report():
    table = make_table()
    assert table.content_hash() == make_table().content_hash()
    relabelled = load_table([{**BASE, "id": "z", "subset": "s", "source": "t", "other": 1}])
    assert relabelled.content_hash() == load_table([BASE]).content_hash()
    assert table.with_report({"cut": 1}).content_hash() == table.content_hash()
    # another order of rows is another layout of the arrays, so it must not pass for the same
    assert table.select_prompts([1, 0, 2, 3]).content_hash() != table.content_hash()


def test_hash_is_the_same_on_every_machine():
    expected = "fda9ec6e77a142e4f87631f98453352e5dfdd12495eb275e048985299d55a132"
    assert load_table([BASE]).content_hash() == expected


def test_parts_put_together_again_are_the_whole():
    table = make_table()
    whole = concatenate([table.select_prompts([0, 1]), table.select_prompts([2, 3])])
    assert whole.content_hash() == table.content_hash()
    assert whole.pair_id == table.pair_id
    assert concatenate([table]).content_hash() == table.content_hash()


def test_concatenated_tables_share_prompts_responses_and_objectives():
    first = load_table([{**BASE, "rejected_ratings": {"z": 3}}])
    second = load_table([{**BASE, "rejected": "c", "chosen_ratings": {"a": 7, "x": 3.0}}])
    both = concatenate([first, second])
    assert (both.num_prompts, both.responses, both.num_pairs) == (1, ["a", "b", "c"], 2)
    assert both.objectives == ("x", "z", "a")
    np.testing.assert_array_equal(both.ratings[0], [2.0, np.nan, 7.0])
    assert both.report.conflicting_ratings == 1
    assert both.report.rows_read == 2
    with pytest.raises(InputError, match="at least one"):
        concatenate([])


def test_subset_of_a_prompt_is_that_of_its_first_row_that_has_one():
    pair = {"chosen": "a", "rejected": "b"}
    rows = [
        {"prompt": "p", **pair},
        {"prompt": "p", "chosen": "c", "rejected": "d", "subset": "first"},
        {"prompt": "p", "chosen": "e", "rejected": "f", "subset": "second"},
        {"prompt": "q", "response": "a", "ratings": {"x": 1}, "subset": "of a response"},
        {"prompt": "r", **pair, "subset": ""},
    ]
    assert load_table(rows).prompt_subset == ["first", "of a response", None]

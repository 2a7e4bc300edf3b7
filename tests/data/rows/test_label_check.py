import math
import warnings

import numpy as np
import pytest

from vrm_pyro.data.rows import check_label_identification, load_table

WORDS = "labels are a function of ratings; objective weights are not identified by this data"


def rated(first, second, preference=1.0, name=""):
    return {
        "prompt": f"p{name}",
        "chosen": "a",
        "rejected": "b",
        "chosen_ratings": first,
        "rejected_ratings": second,
        "preference": preference,
    }


def quiet_check(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return check_label_identification(load_table(rows))


def function_of_ratings(num_rows, num_flipped):
    draws = np.random.default_rng(0).normal(size=(num_rows, 2, 3))
    rows = []
    for number, (first, second) in enumerate(draws):
        preference = float(first.mean() > second.mean())
        if number < num_flipped:
            preference = 1 - preference
        ratings = [dict(zip("xyz", side.tolist(), strict=True)) for side in (first, second)]
        rows.append(rated(*ratings, preference, str(number)))
    return rows


def test_warns_above_99_percent_only():
    with pytest.warns(UserWarning, match=WORDS) as caught:
        check = check_label_identification(load_table(function_of_ratings(1000, 9)))
    assert str(caught[0].message) == WORDS
    assert check.share == pytest.approx(0.991)
    assert check.num_pairs == 1000
    # a warning would fail this test
    assert check_label_identification(load_table(function_of_ratings(1000, 10))).share == 0.99


def test_labels_drawn_with_uneven_weights_do_not_warn():
    rng = np.random.default_rng(1)
    rows = []
    for number in range(300):
        first, second = rng.normal(size=(2, 2))
        preference = float(first @ [0.9, 0.1] > second @ [0.9, 0.1])
        sides = [dict(zip("xy", side.tolist(), strict=True)) for side in (first, second)]
        rows.append(rated(*sides, preference, str(number)))
    check = check_label_identification(load_table(rows))
    assert 0.5 < check.share < 0.9


def test_mean_is_over_the_objectives_both_are_rated_on():
    # each prompt has its own objectives; a mean over all columns would be NaN
    check = quiet_check([rated({"x": 2}, {"x": 1}, name="1"), rated({"y": 1}, {"y": 5}, 0, "2")])
    assert check[:2] == (1.0, 2)


def test_incomplete_pairs_are_left_out():
    rows = [
        rated({"x": 2}, {"x": 1}, name="1"),
        rated({"x": 2, "y": 1}, {"x": 3}, name="2"),
        rated({"x": 2}, None, name="3"),
        rated(None, None, name="4"),
    ]
    check = quiet_check(rows)
    assert (check.num_pairs, check.num_incomplete) == (1, 3)


def test_ties_agree_with_tied_labels_only():
    tie = ({"x": 0.1, "y": 0.2}, {"x": 0.2, "y": 0.1})
    rows = [rated(*tie, 1.0, "1"), rated(*tie, 0.5, "2"), rated({"x": 1}, {"x": 0}, 1.0, "3")]
    check = quiet_check(rows)
    assert (check.num_ties, check.share_untied) == (2, 1.0)
    assert check.share == pytest.approx(2 / 3)


def test_nothing_rated_gives_no_share():
    check = check_label_identification(load_table([rated(None, None)]))
    assert math.isnan(check.share)
    assert not check.is_function


@pytest.mark.parametrize(
    ("part", "num_pairs"), [("test", 938), pytest.param("train", 8134, marks=pytest.mark.slow)]
)
def test_hellobench_labels_are_a_function_of_its_ratings(data_dir, part, num_pairs):
    table = load_table(data_dir / "hellobench" / f"{part}.jsonl.gz")
    with pytest.warns(UserWarning, match=WORDS):
        check = check_label_identification(table)
    assert (check.num_pairs, check.num_ties) == (num_pairs, 0)
    assert check.share >= (num_pairs - 1) / num_pairs


def test_cohere_feedback_labels_are_not_but_the_sign_of_its_overall_rating(data_dir):
    table = load_table(data_dir / "cohere_feedback" / "test.jsonl.gz")
    with pytest.warns(UserWarning, match="the sign of the ratings of overall"):
        check = check_label_identification(table)
    assert check.num_pairs > 400
    assert check.share < 0.9
    assert (check.objective, check.objective_share) == ("overall", 1.0)


def sign_of_one(num_rows, num_flipped=0, rated_share=1.0):
    """Rows of three objectives whose label is the sign of the second, in all but some rows."""
    rng = np.random.default_rng(2)
    rows = []
    for number in range(num_rows):
        sides = [dict(zip("xyz", side.tolist(), strict=True)) for side in rng.normal(size=(2, 3))]
        preference = float(sides[0]["y"] > sides[1]["y"])
        if number < num_flipped:
            preference = 1 - preference
        if number >= rated_share * num_rows:
            sides[0]["y"] = None
        rows.append(rated(*sides, preference, str(number)))
    return rows


def test_labels_that_are_the_sign_of_one_objective_warn_with_its_name():
    with pytest.warns(UserWarning, match="sign of the ratings of y; with it among the objectives"):
        check = check_label_identification(load_table(sign_of_one(1000, 9)))
    assert 0.5 < check.share < 0.9
    assert (check.objective, check.objective_share) == ("y", pytest.approx(0.991))
    assert check.is_function
    assert check.finding == "label = sign of the difference in y in 99.1%"
    # a warning would fail these
    assert check_label_identification(load_table(sign_of_one(1000, 10))).objective is None
    assert not check_label_identification(load_table(sign_of_one(49))).is_function


def test_an_objective_of_few_of_the_pairs_explains_no_labels():
    assert quiet_check(sign_of_one(200, rated_share=0.5)).objective == "y"
    assert check_label_identification(load_table(sign_of_one(200, rated_share=0.45)))[5] is None


def test_ties_of_one_objective_agree_with_tied_labels_only():
    rows = sign_of_one(100)
    for row in rows[:2]:
        row["chosen_ratings"]["y"] = row["rejected_ratings"]["y"]
        row["preference"] = 0.5
    assert quiet_check(rows).objective_share == 1
    for row in rows[:2]:
        row["preference"] = 1.0
    assert check_label_identification(load_table(rows)).objective is None  # 98%


def test_what_is_identified_depends_on_the_objectives_used():
    check = quiet_check(sign_of_one(60))
    assert "all weight on y explains every label" in check.identified(("x", "y"))
    assert "Without it in model.objectives" in check.identified(("x", "y"))
    without = check.identified(("x", "z"))
    assert "they say how y follows from the objectives used" in without
    assert "not: all weight" not in without
    assert "Equal weights explain" in quiet_check(function_of_ratings(60, 0)).identified(("x",))


def test_with_one_objective_the_words_are_those_of_the_mean():
    rows = [rated({"y": 2}, {"y": 1}, name=str(number)) for number in range(60)]
    with pytest.warns(UserWarning, match=WORDS):
        assert check_label_identification(load_table(rows)).objective is None

import numpy as np
import pytest
from scipy import stats

from vrm_pyro.data.rows import (
    concatenate,
    fold_by_prompt,
    keep_labels,
    load_table,
    split_by_prompt,
)
from vrm_pyro.data.rows.splits import prompt_positions
from vrm_pyro.errors import InputError


@pytest.fixture(scope="module")
def table():
    rows = [
        {"prompt": f"prompt {number // 2}", "chosen": f"a{number}", "rejected": "b"}
        for number in range(2000)
    ]
    return load_table(rows)


def contents(table):
    return {prompt[0]["content"] for prompt in table.prompts}


def test_positions_are_uniform_and_change_with_the_seed(table):
    first, second = prompt_positions(table, 0), prompt_positions(table, 1)
    assert stats.kstest(first, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / 1000**0.5


def test_parts_share_no_prompt_and_lose_no_row(table):
    parts = split_by_prompt(table, (0.8, 0.1, 0.1), seed=3)
    assert sum(part.num_prompts for part in parts) == table.num_prompts
    assert sum(part.num_pairs for part in parts) == table.num_pairs
    assert set.union(*map(contents, parts)) == contents(table)
    for part, share in zip(parts, (0.8, 0.1, 0.1), strict=True):
        standard_error = (1000 * share * (1 - share)) ** 0.5
        assert abs(part.num_prompts - 1000 * share) < 5 * standard_error


def test_part_of_a_prompt_does_not_depend_on_the_others(table):
    whole = split_by_prompt(table, seed=3)
    half = split_by_prompt(table.select_prompts(np.arange(1000) % 2 == 0), seed=3)
    other = load_table([{"prompt": "new", "chosen": "a", "rejected": "b"}])
    reordered = split_by_prompt(
        concatenate([other, table.select_prompts(np.arange(999, -1, -1))]), seed=3
    )
    for part, of_half, again in zip(whole, half, reordered, strict=True):
        assert contents(of_half) <= contents(part)
        assert contents(again) - {"new"} == contents(part)


@pytest.mark.parametrize("fractions", [(0.5, 0.4), (1.2, -0.2), ()])
def test_fractions_that_are_no_shares_are_refused(table, fractions):
    with pytest.raises(InputError, match="sum to 1"):
        split_by_prompt(table, fractions)


def test_empty_part_is_an_error_but_a_share_of_zero_is_not(table):
    with pytest.raises(InputError, match="none of the 2 prompts"):
        split_by_prompt(table.select_prompts([0, 1]), (0.9, 0.05, 0.05))
    assert split_by_prompt(table, (1.0, 0.0))[1].num_prompts == 0


def test_folds_cover_all_prompts_evenly_and_are_mixed(table):
    folds = fold_by_prompt(table.select_prompts(np.arange(998)), 5, seed=0)
    assert sorted(np.bincount(folds)) == [199, 199, 200, 200, 200]
    # neighbours in the file are in the same fold by chance only
    same = (folds[1:] == folds[:-1]).mean()
    assert abs(same - 0.2) < 5 * (0.16 / 997) ** 0.5
    assert (folds != fold_by_prompt(table.select_prompts(np.arange(998)), 5, seed=1)).any()
    for wrong in (1, 999):
        with pytest.raises(InputError, match="folds"):
            fold_by_prompt(table.select_prompts(np.arange(998)), wrong)


def test_kept_labels_are_nested_and_ratings_stay():
    rows = [
        {"prompt": f"p{i}", "chosen": "a", "rejected": "b", "chosen_ratings": {"x": i}, "id": i}
        for i in range(100)
    ]
    table = load_table(rows)
    few, more = keep_labels(table, 10, seed=5), keep_labels(table, 30, seed=5)
    assert (few.num_pairs, more.num_pairs) == (10, 30)
    assert set(few.pair_id) < set(more.pair_id)
    assert set(few.pair_id) != set(keep_labels(table, 10, seed=6).pair_id)
    np.testing.assert_array_equal(few.ratings, table.ratings)
    assert few.report.dropped == {"label withheld": 90}
    for wrong in (0, 101):
        with pytest.raises(InputError, match="of 100"):
            keep_labels(table, wrong)

"""Rows that rank several responses, and the pairs they become."""

import itertools
import json

import datasets
import numpy as np
import pytest

from vrm_pyro.data.rows import concatenate, keep_labels, load_table
from vrm_pyro.data.rows.ranking_pairs import complete_drop, pair_weight, pairs_of, shrink
from vrm_pyro.errors import InputError

ROW = {
    "prompt": "Name a colour.",
    "responses": ["grass", "blue", "seven"],
    "ranks": [2, 1, 3],
    "ratings": [{"clear": 3}, None, {"clear": 1, "safe": None}],
    "weight": 1.5,
    "id": "r",
    "subset": "colours",
    "source": "people",
}


def ranking(*texts, prompt="p", **columns):
    """Return a row whose texts come best first, in a scrambled order."""
    order = np.random.default_rng(len(texts)).permutation(len(texts))
    responses = [texts[n] for n in order]
    return {
        "prompt": prompt,
        "responses": responses,
        "ranks": [int(n) + 1 for n in order],
        **columns,
    }


def pairs(table):
    """Return texts, weight and ranking of every pair."""
    return [
        (table.responses[a], table.responses[b], weight, number)
        for a, b, weight, number in zip(
            table.pair_first,
            table.pair_second,
            table.pair_weight.tolist(),
            table.pair_ranking.tolist(),
            strict=True,
        )
    ]


def test_a_ranking_becomes_all_its_pairs_the_better_first():
    table = load_table([ROW])
    assert pairs(table) == [
        ("blue", "grass", 1.0, 0),
        ("blue", "seven", 1.0, 0),
        ("grass", "seven", 1.0, 0),
    ]
    assert table.preference.tolist() == [1, 1, 1]
    assert table.pair_id == ["r"] * 3
    assert (table.pair_subset[0], table.pair_source[2]) == ("colours", "people")
    rated = dict(zip(table.responses, table.ratings[:, 0], strict=True))
    assert rated["grass"] == 3
    assert rated["seven"] == 1
    assert np.isnan(rated["blue"])
    assert (table.report.rankings, table.report.rows_kept) == (1, 1)
    assert table.report.summary() == "1 rows read: 0 comparisons, 0 single responses, 1 rankings"
    assert table.report.as_dict()["rankings"] == 1


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_the_weights_of_a_ranking_of_n_sum_to_n_minus_one(size):
    assert len(pairs_of(size)) == size * (size - 1) / 2
    assert len(pairs_of(size)) * pair_weight(0.7, size) == pytest.approx(0.7 * (size - 1))


def test_a_ranking_of_two_is_a_pair():
    table = load_table([ranking("a", "b", weight=3)])
    same = load_table([{"prompt": "p", "chosen": "a", "rejected": "b", "weight": 3}])
    assert pairs(table) == pairs(same) == [("a", "b", 3.0, -1)]
    assert table.ranking_numbers == []


def test_identical_responses_count_once_and_on_their_best_place():
    table = load_table([ranking("a", "b", "a", "c"), ranking("x", "y", "x", prompt="q")])
    assert pairs(table) == [
        ("a", "b", 2 / 3, 0),
        ("a", "c", 2 / 3, 0),
        ("b", "c", 2 / 3, 0),
        ("x", "y", 1.0, -1),
    ]
    # 6 - 3 pairs, and 3 - 1
    assert table.report.dropped == {"identical responses": 5}
    table = load_table([ranking("a", "a", "a"), ROW])
    assert table.report.rankings == 1


def test_all_readers_take_rankings(tmp_path):
    table = load_table([ROW])
    lines = tmp_path / "rows.jsonl"
    lines.write_text(json.dumps(ROW) + "\n")
    (tmp_path / "rows.json").write_text(json.dumps([ROW]))
    datasets.Dataset.from_list([ROW]).to_parquet(tmp_path / "rows.parquet")
    names = ("responses", "ranks", "ratings")
    cells = ['"' + json.dumps(ROW[name]).replace('"', '""') + '"' for name in names]
    (tmp_path / "rows.csv").write_text(
        f"prompt,{','.join(names)},weight,id\nName a colour.,{','.join(cells)},1.5,r\n"
    )
    for name in ("rows.jsonl", "rows.json", "rows.parquet", "rows.csv"):
        found = load_table(tmp_path / name)
        assert pairs(found) == pairs(table)
        assert found.content_hash() == table.content_hash()
    messages = [[{"role": "assistant", "content": text}] for text in ROW["responses"]]
    assert pairs(load_table([{**ROW, "responses": messages}])) == pairs(table)


def test_other_rows_may_have_columns_of_these_names():
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    table = load_table([{**pair, "ranks": [1, 2]}, {**pair, "rejected": "c", "responses": ["d"]}])
    assert table.num_pairs == 2
    assert table.responses == ["a", "b", "c"]


class TestTable:
    @pytest.fixture
    def table(self):
        pair = {"prompt": "p", "chosen": "a", "rejected": "c"}
        return load_table([ranking(*"abcd"), pair, ranking(*"xyz", prompt="q", weight=3)])

    def test_selected_prompts_keep_their_rankings(self, table):
        part = table.select_prompts([1])
        assert pairs(part) == [("x", "y", 2.0, 1), ("x", "z", 2.0, 1), ("y", "z", 2.0, 1)]

    def test_joined_tables_keep_rankings_apart(self, table):
        both = concatenate([table, load_table([ranking(*"abc")])])
        assert both.ranking_numbers == [0, 1, 2]
        assert both.pair_ranking.tolist() == [0] * 6 + [-1] + [1] * 3 + [2] * 3
        assert both.report.rankings == 3

    def test_they_are_part_of_the_content(self, table):
        plain = load_table(
            [
                {"prompt": "p", "chosen": a, "rejected": b, "weight": 2 / 3}
                for a, b in (("a", "b"), ("a", "c"), ("b", "c"))
            ]
        )
        ranked = load_table([ranking(*"abc")])
        assert [row[:2] for row in pairs(ranked)] == [row[:2] for row in pairs(plain)]
        assert ranked.content_hash() != plain.content_hash()

    def test_a_lost_pair_takes_its_lower_item_along(self, table):
        lost = np.array([row[:2] == ("b", "c") for row in pairs(table)])
        left = table.drop_pairs(lost, "equal")
        assert pairs(left)[:4] == [
            ("a", "b", 2 / 3, 0),
            ("a", "d", 2 / 3, 0),
            ("b", "d", 2 / 3, 0),
            ("a", "c", 1.0, -1),  # a pair of its own stays
        ]
        assert left.report.dropped == {"equal": 3}
        again = left.drop_pairs(np.arange(left.num_pairs) == 0, "equal")
        assert pairs(again)[0] == ("a", "d", 1.0, -1)  # two are left: a pair like any other
        assert table.drop_pairs(np.zeros(table.num_pairs, bool), "none") is table

    def test_labels_cannot_be_withheld_one_by_one(self, table):
        with pytest.raises(InputError, match="2 rankings"):
            keep_labels(table, 3)


def test_what_is_left_is_always_a_ranking():
    """Any pairs dropped from rankings of random sizes, and dropped again."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        sizes = rng.integers(2, 6, size=4).tolist()
        first, second, number, weight = [], [], [], []
        for k, size in enumerate(sizes):
            for a, b in pairs_of(size):
                first.append(10 * k + a)
                second.append(10 * k + b)
                number.append(k if size > 2 else -1)
                weight.append(pair_weight(1.0, size))
        arrays = [np.array(x) for x in (number, first, second)]
        order = rng.permutation(len(first))
        arrays = [x[order] for x in arrays]
        dropped = rng.random(len(first)) < 0.2
        mask = complete_drop(*arrays, dropped)
        assert (mask | ~dropped).all()
        assert (complete_drop(*arrays, mask) == mask).all()
        left, value = shrink(arrays[0], np.array(weight)[order], ~mask)
        for k in np.unique(left[left >= 0]):
            rows = left == k
            items = set(arrays[1][~mask][rows]) | set(arrays[2][~mask][rows])
            assert len(items) > 2
            found = set(zip(arrays[1][~mask][rows], arrays[2][~mask][rows], strict=True))
            assert found == set(itertools.combinations(sorted(items), 2))
            assert value[rows] == pytest.approx(2 / len(items))
        assert value[left < 0] == pytest.approx(1.0)

"""Parts of a table against the whole: the same lines, wherever it is cut."""

import json

import numpy as np
import pytest
from helpers import tiny_backbones
from helpers.reward_models import loaded_model
from helpers.tiny_backbones import text

from vrm_pyro.data.rows import load_table
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.prediction.scorer.output_rows import OutputRows


@pytest.fixture(scope="module")
def scorer():
    backbone = tiny_backbones.tiny_backbone()
    return Scorer(loaded_model(backbone), backbone)


def mixed_rows():
    """Comparisons and single responses that share prompts and responses far apart; few ids."""
    rng = np.random.default_rng(5)
    rows = []
    for i in range(24):
        prompt = text(int(rng.integers(5)), 4)
        first, second = (text(100 + int(j), 5) for j in rng.choice(8, 2, replace=False))
        row = {"prompt": prompt, "chosen": first, "rejected": second}
        if i % 3 == 0:
            row = {"prompt": prompt, "response": first, "ratings": {"clarity": 1.0}}
        if i % 4 == 0:
            row["id"] = f"row {i}"
        rows.append(row)
    return rows


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_lines_of_parts_are_those_of_the_whole(scorer, size):
    table = load_table(mixed_rows())
    whole = list(scorer.score_table(table))
    rows = OutputRows(table)
    assert len(rows) == len({(line["id"], "p_chosen" in line) for line in whole})
    found = []
    for first in range(0, len(rows), size):
        part = rows.select(first, first + size)
        assert part.num_responses == rows.num_responses(first, first + size)
        assert len({json.dumps(prompt) for prompt in part.prompts}) == part.num_prompts
        found += scorer.score_table(part)
    assert len(found) == len(whole)
    for line, expected in zip(found, whole, strict=True):
        assert line.keys() == expected.keys()
        for key, value in expected.items():
            same = value if isinstance(value, str) else pytest.approx(value, rel=1e-4, abs=1e-5)
            assert line[key] == same, key


def test_ratings_and_labels_stay_with_their_rows():
    table = load_table(mixed_rows())
    rows = OutputRows(table)
    part = rows.select(3, 7)
    whole = table.row_order.pair[3:7]
    assert part.num_pairs == 2
    for n, m in enumerate(whole[whole >= 0]):
        assert part.responses[part.pair_first[n]] == table.responses[table.pair_first[m]]
        assert part.prompts[part.pair_prompt[n]] == table.prompts[table.pair_prompt[m]]
        places = [part.response_place[j] for j in (part.pair_first[n], part.pair_second[n])]
        assert places == [
            table.response_place[j] for j in (table.pair_first[m], table.pair_second[m])
        ]
    last = rows.select(len(rows) - 3, len(rows) - 2)
    assert last.num_pairs == 0
    assert (last.ratings == 1.0).all()

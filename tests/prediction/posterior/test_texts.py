"""Texts joined to a posterior, also to one that version 0.1.0 wrote."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers import problems, sources

from vrm_pyro.data.rows import load_table
from vrm_pyro.errors import InputError
from vrm_pyro.prediction.posterior import draw_posterior, with_texts
from vrm_pyro.prediction.posterior.to_xarray import Names, to_datatree

ARTEFACTS = Path(__file__).parents[2] / "artefacts"


@pytest.fixture(scope="module")
def rows():
    text = (ARTEFACTS / "test.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def tree():
    with xr.open_datatree(ARTEFACTS / "posterior.nc") as opened:
        yield opened


def test_texts_stand_beside_the_draws(tree, rows):
    found = with_texts(tree, ARTEFACTS / "test.jsonl")
    means = found["posterior"]["w"].mean(["chain", "draw"]).to_dataframe()
    assert set(means.prompt_text) == {rows[0]["prompt"]}
    texts = {row[side] for row in rows[:3] for side in ("chosen", "rejected")}
    assert set(found["posterior"]["r"].response_text.values) == texts
    np.testing.assert_array_equal(found["posterior"]["w"].values, tree["posterior"]["w"].values)
    assert "prompt_text" not in tree["posterior"].coords


def test_pairs_name_both_texts_the_first_first(tree, rows):
    preference = with_texts(tree, rows)["observed_data"]["preference"]
    swapped = tree["constant_data"]["swapped"].values
    for i, row in enumerate(rows[:3]):
        sides = (
            [row["rejected"], row["chosen"]] if swapped[i] else [row["chosen"], row["rejected"]]
        )
        pair = preference.sel(pair=row["id"])
        assert [pair.first_text.item(), pair.second_text.item()] == sides
        assert pair.item() == (0 if swapped[i] else 1)


def test_other_rows_in_another_order_do_not_matter(tree, rows):
    more = with_texts(tree, [*rows[3:], *rows[:3]])
    same = with_texts(tree, load_table(rows))
    xr.testing.assert_identical(more["posterior"].to_dataset(), same["posterior"].to_dataset())


def test_other_rows_are_refused(tree, rows):
    with pytest.raises(InputError, match="1 of 1 prompts of the posterior are not among the rows"):
        with_texts(tree, rows[3:])
    with pytest.raises(InputError, match="3 responses to its prompts, the rows have 2"):
        with_texts(tree, rows[:1])
    with pytest.raises(InputError, match="nothing was selected"):
        with_texts(tree.isel(response=slice(1)), rows)


def test_prompts_without_digests_go_by_position(rows):
    batch = problems.small_batch(30)
    draws = draw_posterior(problems.small_model(), sources.source_of(batch), 2)
    numbered = to_datatree(draws, Names(("safety", "clarity", "depth")))
    with pytest.raises(InputError, match="numbers 30 prompts, the rows have"):
        with_texts(numbered, rows)
    texts = [f"response {i}" for i in range(batch.num_responses)]
    owner = batch.response_prompt.tolist()
    made = [
        {"prompt": f"prompt {p}", "response": t, "ratings": {"safety": 1.0}}
        for p, t in zip(owner, texts, strict=True)
    ]
    found = with_texts(numbered, made)
    assert found["prior"]["r"].response_text.values.tolist() == texts
    assert found["prior"]["w"].prompt_text.values[4] == "prompt 4"

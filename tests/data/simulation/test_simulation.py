import numpy as np
import pytest

from vrm_pyro.data.simulation import SPLITS, simulate_texts
from vrm_pyro.errors import InputError


@pytest.mark.parametrize("shared_responses", [0, 4])
def test_rows_join_the_truth_by_their_ids(shared_responses):
    simulation = simulate_texts(200, seed=3, shared_responses=shared_responses)
    truth = simulation.truth
    text = dict(zip(truth.response.values, simulation.responses, strict=True))
    seen, prompts = [], {}
    for split in SPLITS:
        rows = simulation.rows(split)
        prompts[split] = {row["prompt"] for row in rows}
        for row in rows:
            pair = truth.sel(pair=row["id"])
            prompt = truth.sel(prompt=pair.pair_prompt.item())
            assert row["prompt"] == prompt.prompt_text.item()
            assert row["subset"] == prompt.prompt_kind.item()
            assert prompt.split.item() == split
            assert row["source"] == "simulated"
            for side in ("chosen", "rejected"):
                name = pair[f"{side}_response"].item()
                assert row[side] == text[name]
                rating = truth.rating.sel(response=name).to_series().to_dict()
                assert row[f"{side}_ratings"] == {
                    k: None if np.isnan(v) else v for k, v in rating.items()
                }
            seen.append(row["id"])
    assert sorted(seen) == sorted(truth.pair.values)
    train, validation, test = prompts.values()
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert len(train | validation | test) == truth.sizes["prompt"]


def test_rows_without_any_rating_have_no_rating_columns():
    rows = simulate_texts(40, rating_missing=1.0).rows("train")
    assert not any(key.endswith("_ratings") for row in rows for key in row)


def test_unknown_split_is_named():
    with pytest.raises(InputError, match="'dev'; choose one of train, validation, test"):
        simulate_texts(40).rows("dev")

"""A trained model, and rows for it, in any form."""

import logging

import datasets
import numpy as np
import pytest
import xarray as xr
from helpers import problems
from helpers.workspace import lines, make_workspace, rows, shared_by_workers

import vrm_pyro
from vrm_pyro.prediction.opening import as_model, as_scorer, open_both, read_inputs


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return shared_by_workers(tmp_path_factory, "workspace", make_workspace)


@pytest.fixture(scope="module")
def scorer(place):
    return vrm_pyro.Scorer.from_pretrained(place / "model", device="cpu", dtype="float32")


def test_a_model_in_any_form(place, scorer):
    loaded = vrm_pyro.load_model(place / "model")
    run = vrm_pyro.fit(output_dir=place / "model", resume=True)
    for model in (place / "model", str(place / "model"), run, loaded, scorer):
        assert as_model(model).objectives == ("clear", "safe")
    assert as_model(loaded) is loaded
    assert as_model(scorer) is scorer.loaded
    assert as_scorer(scorer) is scorer
    assert as_scorer(run, device="cpu").loaded.config.dtype == "float32"
    assert repr(loaded).startswith("LoadedModel(")
    with pytest.raises(vrm_pyro.InputError, match="no such directory"):
        as_model(place / "nothing")


def test_a_moved_backbone(place):
    loaded = as_model(place / "model", backbone="elsewhere")
    assert loaded.backbone["name"] == "elsewhere"
    given = vrm_pyro.load_model(place / "model")
    assert as_model(given, backbone="elsewhere").backbone["name"] == "elsewhere"
    assert given.backbone["name"] != "elsewhere"
    with pytest.raises(vrm_pyro.InputError, match="elsewhere"):
        as_scorer(loaded)


def test_rows_in_any_form_give_the_same_predictions(place, scorer):
    path = place / "train.jsonl"
    table = vrm_pyro.load_table(path)
    expected = vrm_pyro.predict(scorer, vrm_pyro.encode_table(path, scorer.backbone))
    assert repr(expected).startswith("Predictions(72 pairs, 24 prompts x 2 objectives")
    for data in (
        path,
        lines(path),
        datasets.Dataset.from_list(lines(path)),
        table,
        place / "store",
        vrm_pyro.open_store(place / "store"),
        vrm_pyro.Inputs.of(vrm_pyro.open_store(place / "store")),
    ):
        found = vrm_pyro.predict(scorer, data)
        np.testing.assert_allclose(found.p_first, expected.p_first, atol=1e-6)
    assert "states of size" in repr(vrm_pyro.open_store(place / "store"))


def test_evaluate_takes_a_folder_and_a_path(place, scorer):
    found = vrm_pyro.evaluate(place / "model", place / "test.jsonl")
    assert found == vrm_pyro.evaluate(scorer, rows(8, seed=2))
    assert set(found.by_subset) == {"kind 0", "kind 1"}
    assert found["length_baseline"]["longest"] is not None


def test_a_model_built_by_hand_reads_states(place):
    model = problems.small_model().float()
    with pytest.raises(vrm_pyro.InputError, match="reads states, not texts"):
        open_both(model, place / "test.jsonl")
    with pytest.raises(vrm_pyro.InputError, match="reads states, not texts"):
        open_both(model, vrm_pyro.load_table(place / "test.jsonl"))


def test_rows_without_a_comparison_are_refused_before_a_backbone_is_loaded(place):
    single = [{"prompt": "why", "response": "the bird", "ratings": {"unknown": 3.0}}]
    loaded = as_model(place / "model", backbone="not there")
    with pytest.raises(vrm_pyro.InputError, match="no comparison with a positive weight"):
        vrm_pyro.evaluate(loaded, single)


def test_cut_texts_and_dropped_pairs_are_told(scorer, caplog):
    same = " ".join(["bird"] * 100)
    made = [
        {"prompt": "why", "chosen": f"{same} red", "rejected": f"{same} blue"},  # cut away
        {"prompt": "how", "chosen": "the bird", "rejected": "a house"},
    ]
    with caplog.at_level(logging.INFO, "vrm_pyro"):
        inputs = read_inputs(scorer, made, cache=False)
    assert inputs.table.num_pairs == 1
    assert "2 responses cut" in caplog.text
    assert "1 pairs dropped (identical after tokenizing and cutting)" in caplog.text


def test_draws_of_a_run_are_those_of_the_file(place, scorer, tmp_path):
    made = rows(3, seed=4)
    draws = vrm_pyro.draw_posterior(scorer, made, 20, seed=3)
    assert repr(draws).startswith("Draws(20 draws: ")
    tree = vrm_pyro.to_datatree(draws)
    vrm_pyro.write_posterior(scorer, made, tmp_path / "posterior.nc", 20, seed=3)
    with xr.open_datatree(tmp_path / "posterior.nc") as held:
        for group in ("posterior", "prior_predictive", "constant_data"):
            xr.testing.assert_equal(held[group].to_dataset(), tree[group].to_dataset())
        assert held.attrs["config_hash"] == tree.attrs["config_hash"]
        assert held.attrs["num_draws"] == 20
    assert tree["posterior"]["w"].coords["objective"].values.tolist() == ["clear", "safe"]


def test_draws_are_refused_before_a_text_is_encoded(place, tmp_path):
    loaded = as_model(place / "model", backbone="not there")
    with pytest.raises(vrm_pyro.InputError, match="number of draws is 0"):
        vrm_pyro.draw_posterior(loaded, rows(3), 0)
    (tmp_path / "folder.nc").mkdir()
    with pytest.raises(vrm_pyro.InputError, match="is a folder"):
        vrm_pyro.write_posterior(loaded, rows(3), tmp_path / "folder.nc")
    with pytest.raises(vrm_pyro.InputError, match=r"ends in \.nc"):
        vrm_pyro.write_posterior(loaded, rows(3), tmp_path / "posterior.txt")


def test_draws_of_a_module_need_names(place):
    draws = vrm_pyro.draw_posterior(
        vrm_pyro.load_model(place / "model").model,
        vrm_pyro.Inputs.of(vrm_pyro.open_store(place / "store")),
        2,
    )
    with pytest.raises(ValueError, match="have no names"):
        vrm_pyro.to_datatree(draws)

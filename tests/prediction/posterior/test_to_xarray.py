from dataclasses import replace

import arviz_plots
import arviz_stats
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr
from helpers import problems, sources

from vrm_pyro.diagnostics.metrics.predictive_density import elpd
from vrm_pyro.errors import InputError
from vrm_pyro.prediction.posterior import GROUPS, draw_posterior
from vrm_pyro.prediction.posterior.to_xarray import Names, to_datatree, write_netcdf

NUM_DRAWS = 100
NAMES = Names(("safety", "clarity", "depth"))


@pytest.fixture(scope="module")
def problem():
    """Draws of a small model on thirty prompts, hard labels."""
    batch = problems.small_batch(30)
    batch = replace(batch, preference=batch.preference.round())
    margin = np.where(np.arange(batch.num_pairs) % 2, 0.5, np.nan)
    ranking = np.where(np.arange(batch.num_pairs) == 0, 0, -1)  # Bradley-Terry takes the pair
    source = replace(sources.source_of(batch), pair_margin=margin, pair_ranking=ranking)
    return draw_posterior(problems.small_model(), source, NUM_DRAWS), source


@pytest.fixture(scope="module")
def tree(problem):
    return to_datatree(problem[0], NAMES)


def test_every_group_and_variable_has_its_named_dimensions(problem, tree):
    draws, source = problem
    assert set(tree.children) == set(GROUPS)
    sizes = {
        "chain": 1, "draw": NUM_DRAWS, "prompt": 30, "response": len(source.response_prompt),
        "pair": len(source.pair_first), "objective": 3, "feature": 2,
    }  # fmt: skip
    for group, known in GROUPS.items():
        assert set(tree[group].data_vars) == set(known)
        for name, variable in known.items():
            array = tree[group][name]
            sampled = variable.sampled or group == "log_likelihood"
            assert array.dims == (("chain", "draw") if sampled else ()) + variable.dims
            assert array.shape == tuple(sizes[dim] for dim in array.dims)
            assert array.dtype == variable.dtype
            assert array.attrs["meaning"]
            held = draws.groups[group][name]
            np.testing.assert_array_equal(array.values.reshape(-1)[: held.size], held.reshape(-1))


def test_selection_by_name(problem, tree):
    draws, _ = problem
    w = tree["posterior"]["w"].sel(objective="clarity", prompt=3)
    np.testing.assert_array_equal(w.values[0], draws.groups["posterior"]["w"][:, 3, 1])


def test_scores_convert_to_raw_ratings_by_the_attributes(tree):
    unit = {name: np.array(tree.attrs[f"rating_{name}"]) for name in ("loc", "scale", "offset")}
    s = tree["posterior"]["s"].values
    expected = unit["loc"] + unit["scale"] * (s + unit["offset"])
    drawn = tree["posterior_predictive"]["rating"].values
    residual = (drawn - expected)[0]
    assert (np.abs(residual.mean(0)) < 5 * residual.std(0) / NUM_DRAWS**0.5).all()


def test_log_likelihood_repeats_the_evidence(problem, tree):
    outcomes = tree["log_likelihood"]["outcomes"].values
    assert (outcomes == problem[0].groups["log_likelihood"]["outcomes"]).all()


def test_file_gives_back_the_tree(tree, problem, tmp_path):
    path = tmp_path / "new" / "posterior.nc"
    tree = to_datatree(
        problem[0],
        replace(NAMES, pair_subset=["chat"] * 30 + [None] * (len(problem[1].pair_first) - 30)),
        attrs={"model": "runs/a", "held_out": True, "unknown": None},
        constant_attrs={"condition_number": 3.5, "weight_se": (0.1, 0.2)},
    )
    write_netcdf(tree, path)
    assert [p.name for p in path.parent.iterdir()] == ["posterior.nc"]
    with xr.open_datatree(path) as read:
        for group in GROUPS:
            xr.testing.assert_equal(read[group].to_dataset(), tree[group].to_dataset())
            assert read[group]["chain"].size == 1 if "chain" in read[group].dims else True
        assert read["constant_data"].attrs["condition_number"] == 3.5
        assert list(read["constant_data"].attrs["weight_se"]) == [0.1, 0.2]
        assert read["constant_data"]["pair_subset"].values[[0, 30]].tolist() == ["chat", ""]
        assert read.attrs["predictive_group"] == "prior_predictive"
        assert read.attrs["held_out"] == 1
        assert "unknown" not in read.attrs
        assert list(read["posterior"]["objective"].values) == list(NAMES.objectives)
        assert np.isnan(read["observed_data"]["rating"]).any()


def test_a_failed_write_leaves_what_was_there(tree, tmp_path, monkeypatch):
    path = tmp_path / "posterior.nc"
    path.write_bytes(b"earlier")

    def fail(self, target, **_):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(xr.DataTree, "to_netcdf", fail)
    with pytest.raises(OSError, match="disk full"):
        write_netcdf(tree, path)
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_file_needs_its_ending(tree, tmp_path):
    with pytest.raises(InputError, match=r"ends in \.nc"):
        write_netcdf(tree, tmp_path / "posterior.json")


def test_ids_are_coordinates_where_they_are_unique(problem):
    draws, source = problem
    num_pairs, num_responses = len(source.pair_first), len(source.response_prompt)
    pair = [f"row-{n}" for n in range(num_pairs)]
    found = to_datatree(draws, replace(NAMES, pair=pair, response=[None] * num_responses))
    assert found["observed_data"]["preference"].sel(pair="row-3").ndim == 0
    assert found["posterior"]["response"].values.tolist() == list(range(num_responses))
    twice = to_datatree(draws, replace(NAMES, pair=["a"] * num_pairs))
    assert twice["observed_data"]["pair"].values.tolist() == list(range(num_pairs))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (Names(("a", "b")), "2 objective names for 3"),
        (replace(NAMES, pair=["a"]), "1 names for"),
        (replace(NAMES, pair_subset=["a"]), "1 subsets for"),
    ],
)
def test_names_must_fit(problem, names, message):
    with pytest.raises(ValueError, match=message):
        to_datatree(problem[0], names)


def test_draws_on_disk_and_rows_without_pairs(tmp_path):
    source = sources.without_pairs(sources.source_of(problems.small_batch(4)))
    draws = draw_posterior(problems.small_model(), source, 5, storage=tmp_path)
    write_netcdf(to_datatree(draws, NAMES), tmp_path / "p.nc")
    with xr.open_datatree(tmp_path / "p.nc") as read:
        assert "pair" not in read["constant_data"].dims
        assert read["posterior_predictive"]["rating"].shape == (1, 5, 11, 3)


def test_arviz_summary_and_pareto_k(tree):
    table = arviz_stats.summary(tree, var_names=["w"], kind="stats")
    assert len(table) == 90
    assert table["mean"].astype(float).between(0, 1).all()
    # A sign trap: psislw takes log likelihoods, log_weight are log ratios.
    log_ratio = tree["sample_stats"].to_dataset()["log_weight"]
    _, khat = (-log_ratio).azstats.psislw(dim=["chain", "draw"])
    assert khat.dims == ("prompt",)
    assert (khat < 1).all()


def test_leave_one_out_is_the_sum_of_the_evidence(tree):
    found = elpd(tree)
    evidence = tree["log_likelihood"]["outcomes"].isel(chain=0, draw=0)
    assert found.elpd == pytest.approx(float(evidence.sum()))
    assert found.n_data_points == 30
    assert found.p == pytest.approx(0, abs=1e-9)
    # One observation a prompt: the error is that of a sum over prompts.
    assert found.se == pytest.approx(30**0.5 * float(evidence.std()), rel=0.05)


def test_arviz_draws_weights_and_calibration(tree, tmp_path):
    chosen = tree.sel(prompt=slice(0, 3))
    arviz_plots.plot_forest(chosen, var_names=["w"], backend="matplotlib").savefig(
        tmp_path / "forest.png"
    )
    # In mode conditional the group that has not seen the labels bears the name of the prior.
    with pytest.warns(UserWarning, match="Be cautious"):
        arviz_plots.plot_ppc_pava(
            tree,
            var_names=["preference"],
            group=tree.attrs["predictive_group"],
            backend="matplotlib",
        ).savefig(tmp_path / "pava.png")
    plt.close("all")
    for name in ("forest.png", "pava.png"):
        assert (tmp_path / name).stat().st_size > 5_000


def test_prior_is_the_state_before_the_outcomes(tree):
    # Ratings pull the scores: the posterior is narrower than the prior.
    spread = {g: tree[g]["s"].std("draw").mean().item() for g in ("prior", "posterior")}
    assert spread["posterior"] < spread["prior"]
    assert torch.is_grad_enabled()

import threading
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers import problems, sources

from vrm_pyro.prediction.posterior import GROUPS, QUANTILES, SUMMARY_GROUPS, draw_posterior, draws
from vrm_pyro.prediction.posterior.to_xarray import Names, to_datatree, write_netcdf

NAMES = Names(("safety", "clarity", "depth"))
NUM_DRAWS = 41


@pytest.fixture(scope="module")
def both():
    """Draws and summaries of the same model on the same rows."""
    model, source = problems.small_model(), sources.source_of(problems.small_batch(12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draws, "CHUNK_SIZE", 20_000)  # several chunks
        return tuple(
            draw_posterior(model, source, NUM_DRAWS, seed=3, summarized=kept)
            for kept in (False, True)
        )


def test_summaries_are_those_of_the_draws(both):
    drawn, summaries = (found.groups for found in both)
    assert set(summaries) == set(SUMMARY_GROUPS)
    for group in ("posterior", "prior", "posterior_predictive", "prior_predictive"):
        for name, values in drawn[group].items():
            held = summaries[f"{group}_summary"]
            values = values.astype(np.float64)
            np.testing.assert_allclose(held[f"{name}_mean"], values.mean(0), rtol=1e-4, atol=1e-5)
            if name == "preference":
                assert "preference_sd" not in held
                continue
            np.testing.assert_allclose(held[f"{name}_sd"], values.std(0), rtol=1e-4, atol=1e-5)
            quantiles = np.moveaxis(np.quantile(values, QUANTILES, axis=0), 0, -1)
            np.testing.assert_allclose(held[f"{name}_quantile"], quantiles, rtol=1e-4, atol=1e-5)


def test_what_has_no_draws_is_kept(both):
    drawn, summaries = (found.groups for found in both)
    for group in ("observed_data", "constant_data", "log_likelihood", "sample_stats"):
        for name, variable in GROUPS[group].items():
            if not variable.sampled and name in drawn[group]:
                np.testing.assert_array_equal(summaries[group][name], drawn[group][name])
    assert "log_weight" not in summaries["sample_stats"]
    assert "log_prior" not in summaries


def test_nothing_in_a_tree_of_summaries_grows_with_the_draws(both, tmp_path):
    tree = to_datatree(both[1], NAMES)
    assert "posterior" not in tree.children
    sizes = {name: size for group in tree.children.values() for name, size in group.sizes.items()}
    assert sizes["quantile"] == len(QUANTILES)
    assert sizes["draw"] == 1
    assert "draw" not in tree["posterior_summary"].dims
    write_netcdf(tree, tmp_path / "s.nc")
    with xr.open_datatree(tmp_path / "s.nc") as read:
        held = read["posterior_summary"]["w_quantile"].sel(objective="depth", quantile=0.5)
        assert np.array_equal(held, tree["posterior_summary"]["w_quantile"].values[:, 2, 2])
        assert "not draws" in read["posterior_summary"].attrs["note"]


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").is_file(), reason="reads /proc")
def test_a_large_file_is_written_without_its_draws_in_memory(tmp_path):
    size = (200, 25_000, 4)  # 80 MB
    draws = np.memmap(tmp_path / "draws.bin", dtype=np.float32, mode="w+", shape=size)
    variable = ("chain", "draw", "response", "objective"), draws[None]
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"s": variable})})
    with Memory() as memory:
        write_netcdf(tree, tmp_path / "p.nc")
    assert (tmp_path / "p.nc").stat().st_size > draws.nbytes
    assert memory.grown < 0.25 * draws.nbytes
    with Memory() as memory, xr.open_datatree(tmp_path / "p.nc") as read:
        rows = read["posterior"]["s"].isel(response=slice(9, 12))  # read alone
        assert rows.values.shape == (1, 200, 3, 4)
    assert memory.grown < 0.25 * draws.nbytes


class Memory(threading.Thread):
    """Watches how far this process's own memory, without mapped files, grows in a block."""

    def __enter__(self):
        self.first, self.most, self.ended = self.now(), 0, threading.Event()
        self.start()
        return self

    def __exit__(self, *error):
        self.ended.set()
        self.join()

    def run(self):
        while not self.ended.wait(0.002):
            self.most = max(self.most, self.now())

    @property
    def grown(self):
        return self.most - self.first

    @staticmethod
    def now():
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if "Anonymous:" in line)

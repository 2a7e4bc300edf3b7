import io

import numpy as np
import pytest
import xarray as xr

from vrm_pyro.report.plots import draws_forest


def draws(shift):
    values = np.random.default_rng(0).normal(shift, 1, (1, 400, 2, 3))
    coords = {"prompt": ["a", "b"], "objective": ["x", "y", "z"]}
    return xr.DataArray(values, coords, ("chain", "draw", "prompt", "objective"))


@pytest.mark.filterwarnings("ignore:.*tight_layout.*:UserWarning")
def test_means_of_both_sources_are_where_the_draws_are():
    figure = draws_forest({"one": draws(0), "two": draws(10)}, ["prompt", "objective"], "weight")
    axes = figure.axes[-1]
    means = np.sort([c.get_offsets()[0, 0] for c in axes.collections if len(c.get_offsets()) == 1])
    assert len(means) == 12
    # 400 draws: a mean has a standard error of .05.
    np.testing.assert_allclose(means, np.repeat([0, 10], 6), atol=0.25)
    assert axes.get_xlabel().startswith("weight")
    figure.savefig(io.BytesIO(), format="png")


def test_too_many_sources_are_refused():
    with pytest.raises(ValueError, match="5 sources"):
        draws_forest({str(i): draws(0) for i in range(5)}, ["prompt", "objective"], "x")


def test_sources_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="differ"):
        draws_forest({"a": draws(0), "b": draws(0)[:, :10]}, ["prompt", "objective"], "x")

"""psense."""

import json

import numpy as np
import pytest
import xarray as xr
from helpers.workspace import succeed, vrm_pyro

from vrm_pyro.cli.verbs.posterior import build_parser
from vrm_pyro.diagnostics.sensitivity.measure import sensitivity
from vrm_pyro.prediction.posterior.draws import POSTERIOR_DRAWS
from vrm_pyro.prediction.posterior.to_xarray import write_netcdf


@pytest.fixture(scope="module")
def posterior(place, tmp_path_factory):
    """A posterior file of eight prompts."""
    path = tmp_path_factory.mktemp("psense") / "p.nc"
    data = ("--data", place / "test.jsonl", "--draws", 400, "--out", path)
    succeed("posterior", "--model", place / "model", *data)
    return path


def test_table_json_and_figure(posterior, tmp_path):
    out, plot = tmp_path / "new" / "d.json", tmp_path / "f.png"
    run = succeed("psense", "--posterior", posterior, "--out", out, "--plot", plot)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in out.parent.iterdir()] == ["d.json"]
    found = json.loads(out.read_text())
    assert (found["num_draws"], found["num_prompts"], found["threshold"]) == (400, 8, 0.05)
    with xr.open_datatree(posterior) as tree:
        expected = sensitivity(tree)
    names = [str(name) for name in expected.index["component"].values]
    assert {"prior", "weights prior", "features prior", "likelihood", "ratings"} <= set(names)
    for quantity, array in expected.index.data_vars.items():
        held = found["items"][quantity]
        assert held["dims"] == list(array.dims[1:])
        values = np.array([held["index"][name] for name in names], dtype=float)
        np.testing.assert_allclose(values, array.values)
    assert found["items"]["w"]["objective"] == ["clear", "safe"]
    assert len(found["items"]["s"]["prompt_position"]) == 24
    khat = np.array([found["khat"][name] for name in names], dtype=float)
    np.testing.assert_allclose(khat, expected.khat.values)
    rows = [row for row in found["components"] if row["objective"] is None]
    assert len(rows) == 4 * len(names)
    for row in rows:
        (line,) = [
            line
            for line in section(run.out, row["quantity"])
            if f"{row['component']:<15}" in line[7:22]
        ]
        assert f"{row['median']:.3f}" in line
        assert line.endswith(row["verdict"])
    assert str(out) in run.out
    assert str(plot) in run.out


def section(text, quantity):
    """The lines of the first table that belong to one quantity."""
    lines = text.split("\n\n")[1].splitlines()[1:]
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{quantity} "))
    more = [i for i, line in enumerate(lines) if i > start and line[0] != " "]
    return lines[start : more[0] if more else None]


def test_threshold_decides_what_is_flagged(posterior, tmp_path):
    shares = []
    for threshold in ("1.0e-9", "50"):
        out = tmp_path / "d.json"
        succeed("psense", "--posterior", posterior, "--threshold", threshold, "--out", out)
        shares.append({row["flagged"] for row in json.loads(out.read_text())["components"]})
    assert shares == [{1.0}, {0.0}]


def test_few_draws(place, posterior, tmp_path):
    data = ("--data", place / "test.jsonl", "--out", tmp_path / "p.nc", "--draws")
    succeed("posterior", "--model", place / "model", *data, 20)
    run = vrm_pyro("psense", "--posterior", tmp_path / "p.nc", "--out", tmp_path / "d.json")
    assert run.code == 2
    assert "p.nc: the posterior has 20 draws" in run.err
    assert "--draws 1000" in run.err
    assert not (tmp_path / "d.json").exists()
    succeed("posterior", "--model", place / "model", *data, 100)
    run = succeed("psense", "--posterior", tmp_path / "p.nc")
    assert "unreliable: the guide's draws do not cover" in run.out
    run = succeed("psense", "--posterior", posterior)
    assert "too few draws" in run.out
    assert "With 400 draws, noise alone reaches the threshold" in run.out


def test_a_file_without_what_it_needs(posterior, tmp_path):
    with xr.open_datatree(posterior) as tree:
        tree["sample_stats"] = tree["sample_stats"].to_dataset().drop_vars("lp_ratings")
        del tree["log_prior"]
        write_netcdf(tree, tmp_path / "old.nc")
    run = vrm_pyro("psense", "--posterior", tmp_path / "old.nc")
    assert run.code == 2
    assert "lacks log_prior/lp_w, log_prior/lp_z, sample_stats/lp_ratings" in run.err
    assert "vrm-pyro posterior" in run.err


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("--posterior", "{place}/gone.nc"), ("gone.nc: no such file",)),
        (("--posterior", "{place}/test.jsonl"), ("test.jsonl: is not a netCDF file",)),
        (("--posterior", "{place}"), ("no such file",)),
        (("--posterior", "{p}", "--threshold", "0"), ("--threshold is 0", "above 0")),
        (("--posterior", "{p}", "--threshold", "nan"), ("threshold", "nan")),
        (("--posterior", "{p}", "--plot", "a.jpeg"), ("--plot a.jpeg", ".png, .pdf, .svg")),
        (("--posterior", "{p}", "--out", "{place}"), ("is a folder",)),
        ((), ("posterior",)),
    ],
)
def test_bad_usage(place, posterior, arguments, fragments):
    given = [a.format(place=place, p=posterior) for a in arguments]
    run = vrm_pyro("psense", *given)
    assert run.code == 2
    assert [part for part in fragments if part not in run.err] == [], run.err
    assert "Traceback" not in run.err


def test_default_draws_are_a_thousand(place, tmp_path):
    """The file of a run, and what ``posterior`` draws by default."""
    assert build_parser().get_default("draws") == POSTERIOR_DRAWS == 1000
    out = tmp_path / "d.json"
    succeed("psense", "--posterior", place / "model" / "posterior.nc", "--out", out)
    found = json.loads(out.read_text())
    assert found["num_draws"] == 1000

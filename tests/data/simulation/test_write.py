import json

import pytest
import xarray as xr

from vrm_pyro.data.simulation import SPLITS, simulate_texts, write_simulation
from vrm_pyro.errors import InputError


def test_files_hold_the_rows_and_the_truth(tmp_path):
    simulation = simulate_texts(60, seed=2)
    paths = write_simulation(simulation, tmp_path / "sim")
    assert {p.name for p in (tmp_path / "sim").iterdir()} == {p.name for p in paths.values()}
    for split in SPLITS:
        lines = paths[split].read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == simulation.rows(split)
    with xr.open_dataset(paths["truth"]) as stored:
        xr.testing.assert_identical(stored.load(), simulation.truth)


def test_a_full_directory_is_kept_unless_told(tmp_path):
    out = tmp_path / "sim"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="--overwrite"):
        write_simulation(simulate_texts(60), out)
    assert [p.name for p in out.iterdir()] == ["notes.txt"]
    paths = write_simulation(simulate_texts(60), out, overwrite=True)
    assert not (out / "notes.txt").exists()
    assert all(path.is_file() for path in paths.values())


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fail)
    with pytest.raises(OSError, match="disk full"):
        write_simulation(simulate_texts(60), tmp_path / "sim")
    assert list(tmp_path.iterdir()) == []

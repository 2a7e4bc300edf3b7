"""docs/posterior.md against files as they are written."""

import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import problems
import pytest
import sources
import xarray as xr

from vrm_pyro.posterior import GROUPS, draw_posterior
from vrm_pyro.to_xarray import Names, to_datatree, write_netcdf

PAGE = Path(__file__).resolve().parents[1] / "docs" / "posterior.md"
KINDS = {"f4": np.float32, "f8": np.float64, "i8": np.int64, "b": np.bool_}
STATUS = Path("/proc/self/status")


def tables():
    """Return the rows of the table below each heading of the page."""
    found, heading = {}, ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").strip("`")
        elif line.startswith("| ") and not line.startswith("| --- "):
            cells = re.split(r"(?<!\\)\|", line.strip("|"))
            cells = [cell.strip().replace("\\|", "|") for cell in cells]
            found.setdefault(heading, []).append(cells)
    return {name: rows[1:] for name, rows in found.items()}


def names_in(cell):
    return re.findall(r"`(\w+)`", cell)


@pytest.fixture(scope="module")
def draws():
    batch = problems.small_batch(30)
    margin = np.where(np.arange(batch.num_pairs) % 2, 0.5, np.nan)
    ranking = np.where(np.arange(batch.num_pairs) == 0, 0, -1)
    source = replace(sources.source_of(batch), pair_margin=margin, pair_ranking=ranking)
    return draw_posterior(problems.small_model(), source, 100)


@pytest.fixture(scope="module")
def tree(draws, tmp_path_factory):
    """A file with everything in it, opened."""
    path = tmp_path_factory.mktemp("page") / "p.nc"
    subset = ["even", None] * (len(draws.groups["constant_data"]["pair_first"]) // 2 + 1)
    subset = subset[: len(draws.groups["constant_data"]["pair_first"])]
    write_netcdf(to_datatree(draws, Names(("a", "b", "c"), pair_subset=subset)), path)
    with xr.open_datatree(path) as opened:
        yield opened


@pytest.mark.parametrize("group", list(GROUPS))
def test_every_variable_is_listed_with_its_dimensions_type_and_meaning(tree, group):
    listed = {names_in(cells[0])[0]: cells[1:] for cells in tables()[group]}
    assert set(listed) == set(map(str, tree[group].data_vars))
    assert len(listed) == len(tables()[group])
    for name, (dims, kind, meaning) in listed.items():
        array = tree[group][name]
        assert dims.split(", ") == list(array.dims)
        if kind != "text":
            assert array.dtype == KINDS[kind]
            assert meaning == array.attrs["meaning"]


def test_every_dimension_is_listed(tree):
    listed = {names_in(cells[0])[0] for cells in tables()["Dimensions"]}
    assert listed == {str(dim) for group in tree.children for dim in tree[group].dims}


def test_a_large_file_is_written_and_opened_without_all_draws_in_memory(draws, tmp_path):
    """Draws mapped to files pass through: 60 MB of them add less than a third of that."""
    if not STATUS.is_file():
        pytest.skip("needs Linux's account of a process's own memory")
    copies, size = 60, 0
    groups = {}
    for group, held in draws.groups.items():
        groups[group] = {}
        for name, small in held.items():
            axis = 1 if GROUPS[group].get(name) and GROUPS[group][name].sampled else 0
            shape = [n * copies if i == axis else n for i, n in enumerate(small.shape)]
            path = tmp_path / f"{group}.{name}"
            mapped = np.memmap(path, small.dtype, "w+", shape=tuple(shape))
            for part in np.array_split(mapped, copies, axis):
                part[...] = small
            groups[group][name] = mapped
            size += mapped.nbytes
    large = replace(draws, groups=groups)
    assert size > 5e7
    with PeakMemory() as memory:
        write_netcdf(to_datatree(large, Names(("a", "b", "c"))), tmp_path / "p.nc")
        with xr.open_datatree(tmp_path / "p.nc") as opened:
            some = opened["posterior"]["s"].isel(response=slice(85, 95)).values
    assert memory.added < size / 3
    np.testing.assert_array_equal(some[0], groups["posterior"]["s"][:, 85:95])


class PeakMemory:
    """The largest amount of memory of its own, in bytes, that the process takes on in a block."""

    def __enter__(self):
        self._start, self._peak, self._ends = self._now(), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        self._thread.join()
        self.added = max(self._peak, self._now()) - self._start

    def _watch(self):
        while not self._ends.is_set():
            self._peak = max(self._peak, self._now())
            time.sleep(0.002)

    def _now(self):
        return 1024 * int(re.search(r"RssAnon:\s+(\d+)", STATUS.read_text())[1])

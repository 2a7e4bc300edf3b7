"""What the root of a posterior file says, against docs/posterior.md."""

import re
from pathlib import Path

import pytest
import xarray as xr
from cli.workspace import succeed

from vrm_pyro.checkpoint import config_hash, load_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "posterior.md"


@pytest.fixture(scope="module")
def attrs(place, tmp_path_factory):
    path = tmp_path_factory.mktemp("attributes") / "p.nc"
    data = ("--data", place / "test.jsonl", "--draws", 10, "--seed", 7, "--out", path)
    succeed("posterior", "--model", place / "model", *data)
    with xr.open_datatree(path) as tree:
        return dict(tree.attrs)


def test_every_attribute_is_listed(attrs):
    part = PAGE.read_text(encoding="utf-8").partition("## Attributes of the root")[2]
    rows = [line for line in part.splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert set(listed) == set(attrs)


def test_values_are_those_of_the_model(attrs, place):
    loaded = load_model(place / "model")
    assert attrs["config_hash"] == config_hash(loaded)
    assert (attrs["mode"], attrs["seed"]) == ("conditional", 7)
    assert (attrs["kappa_w"], attrs["kappa_z"]) == (1, 1)
    assert attrs["lambda"] == loaded.config.rating_power
    assert attrs["torch_version"].startswith("2.")


def test_the_hash_follows_settings_and_not_places(place):
    loaded = load_model(place / "model")
    before = config_hash(loaded)
    loaded.backbone["name"] = "elsewhere"
    assert config_hash(loaded) == before
    loaded.config.hyperprior_weight += 1
    assert config_hash(loaded) != before

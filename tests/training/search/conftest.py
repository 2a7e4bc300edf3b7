"""What the tests of a search start from: few rows of numbers, trainings of one epoch."""

import pytest
from helpers.number_texts import QUICK, Numbers, number_rows

from vrm_pyro.data.rows import load_table
from vrm_pyro.features.writing import write_store
from vrm_pyro.training.search.search import search


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """The folder of a store of 30 prompts, two pairs each."""
    folder = tmp_path_factory.mktemp("search") / "store"
    write_store(load_table(number_rows(30)), Numbers(), folder, progress=False)
    return folder


@pytest.fixture
def run(store, tmp_path):
    """Search on the store; a rate of learning that learns nothing, and one that does."""

    def call(data=store, **changes):
        given = {
            "configs": "bradley_terry",
            "space": {"train.learning_rate": [1e-6, 0.1]},
            "output_dir": tmp_path / "out",
            "trials": 2,
            "folds": 2,
        }
        settings = QUICK | changes.pop("settings", {})
        return search(data, **(given | changes), settings=settings)

    return call

"""What all tests of the command line start from."""

import pytest
from helpers.workspace import make_baseline, make_workspace, shared_by_workers


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with train, validation and test rows, ``bert``, ``store`` and ``model``."""
    return shared_by_workers(tmp_path_factory, "workspace", make_workspace)


@pytest.fixture(scope="session")
def baseline(place, tmp_path_factory):
    """A Bradley-Terry model, trained on the same rows as ``model``."""
    return shared_by_workers(
        tmp_path_factory, "bradley_terry", lambda folder: make_baseline(place, folder)
    )

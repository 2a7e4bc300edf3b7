"""What all tests of the command line start from."""

import pytest
from helpers.workspace import make_workspace, options, succeed


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with train, validation and test rows, ``bert``, ``store`` and ``model``."""
    return make_workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="session")
def baseline(place):
    """A Bradley-Terry model beside ``model``, trained on the same rows."""
    settings = options(place, train__num_train_epochs=1)
    out = ("--train.output_dir", place / "bradley_terry")
    succeed("train", "--config", "bradley_terry", *settings, *out)
    return place / "bradley_terry"

"""What all tests of the command line start from."""

import pytest
from cli.workspace import make_workspace


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with train, validation and test rows, ``bert``, ``store`` and ``model``."""
    return make_workspace(tmp_path_factory.mktemp("workspace"))

"""What the tests of a trained backbone start from."""

import pytest
from helpers.text_rows import write_rows

from vrm_pyro.data.rows import load_table


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """Training and validation rows."""
    folder = tmp_path_factory.mktemp("rows")
    return tuple(
        load_table(write_rows(folder / f"{name}.jsonl", size, seed, ratings=True))
        for name, size, seed in (("train", 16, 0), ("validation", 6, 90_000))
    )

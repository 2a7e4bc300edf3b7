"""What every test starts from: no network, fixed seeds, warnings as errors, bounded threads."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Nothing of vrm_pyro up here: this file loads before the hook that checks shapes is in place.
import pyro
import pytest
import torch

# Before anything imports huggingface_hub, which reads these once. A test that needs the network
# is a test that fails on a train.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# `datasets` keeps what it parsed; a fresh place, so that no run depends on an earlier one.
_datasets_cache = tempfile.mkdtemp(prefix="vrm_pyro_datasets_")
atexit.register(shutil.rmtree, _datasets_cache, ignore_errors=True)
os.environ["HF_DATASETS_CACHE"] = _datasets_cache
# Likewise states: a test computes what it asserts.
_states_cache = tempfile.mkdtemp(prefix="vrm_pyro_states_")
atexit.register(shutil.rmtree, _states_cache, ignore_errors=True)
os.environ["VRM_PYRO_CACHE"] = _states_cache
os.environ.setdefault("MPLBACKEND", "Agg")

if "OMP_NUM_THREADS" not in os.environ:
    # More threads than this only wait for each other on the small tensors of tests.
    # One of several processes that share the tests has one, and so have those it starts.
    num_threads = 1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count() or 1)
    torch.set_num_threads(num_threads)
    if num_threads == 1:
        os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def fresh_pyro() -> Iterator[None]:
    """Seed torch, NumPy and `random`; validate distributions; keep no parameter between tests."""
    pyro.set_rng_seed(20260304)
    pyro.clear_param_store()
    with pyro.validation_enabled(True):
        yield
    pyro.clear_param_store()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real preference sets, which VRM_PYRO_DATA names."""
    name = os.environ.get("VRM_PYRO_DATA")
    if not name:
        pytest.skip("needs real data: VRM_PYRO_DATA is not set")
    folder = Path(name)
    if not folder.is_dir():
        pytest.skip(f"needs real data: VRM_PYRO_DATA={name} is not a folder")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `gpu` tests where there is no such device."""
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))

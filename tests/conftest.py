"""What every test starts from: no network, fixed seeds, warnings as errors, bounded threads."""

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Nothing of vrm_pyro up here: this file loads before the hook that checks shapes is in place.
import pyro
import pytest
import torch
from helpers import shape_checks

shape_checks.install()

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
    shape_checks.begin_test()
    pyro.set_rng_seed(20260304)
    pyro.clear_param_store()
    with pyro.validation_enabled(True):
        yield
    pyro.clear_param_store()


@pytest.fixture(scope="module", autouse=True)
def frozen_modules() -> None:
    """Let garbage collection pass over what was imported: a training collects several times.

    A full collection of all that torch and transformers define takes half a second.
    """
    gc.collect()
    gc.freeze()


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


# The files that take longest, longest first; the rest takes less, in the order of collection.
LONGEST_FILES = (
    "test_notebooks.py",
    "processes/test_steps.py",
    "processes/test_processes.py",
    "scripts/test_demo.py",
    "serve/test_ray.py",
    "integrations/test_ray.py",
    "test_wheel.py",
    "cli/test_malformed.py",
    "cli/verbs/test_train.py",
    "training/finetuning/test_tuner.py",
    "training/test_train.py",
    "models/test_combinations.py",
    "training/search/test_search.py",
    "cli/verbs/test_doctor.py",
    "training/test_stopping.py",
    "training/preflight/test_overfit.py",
    "cli/verbs/test_certify.py",
    "diagnostics/checks/test_diagnose.py",
    "scripts/test_sweeps.py",
    "checks/test_check_05_collapse.py",
)


def _turn(item: pytest.Item) -> int:
    """Return the place of a test's file among those that take longest."""
    path = item.path.as_posix()
    places = (i for i, name in enumerate(LONGEST_FILES) if path.endswith(f"/tests/{name}"))
    return next(places, len(LONGEST_FILES))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first, so that no process is left alone with one at the end.

    Skip `gpu` tests where there is no such device.
    """
    items.sort(key=_turn)
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))

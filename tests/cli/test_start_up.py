"""What a command loads: --help without torch, that of train and doctor without transformers."""

import functools
import subprocess
import sys

import pytest
from helpers.workspace import succeed

SLOW = {
    "torch",
    "pyro",
    "transformers",
    "datasets",
    "scipy",
    "matplotlib",
    "xarray",
    "pandas",
    "netCDF4",
    "peft",
    "accelerate",
    "torch.distributed.fsdp",
}
WITHOUT_MODEL = (
    "score",
    "evaluate",
    "posterior",
    "explain",
    "psense",
    "diagnose",
    "certify",
    "report",
    "simulate",
    "features",
    "export",
    "search",
    "serve",
)


@functools.cache
def loaded(code):
    """Run Python code in a new process; return slow modules it loaded, and its output."""
    code += f"\nimport sys\nprint('LOADED', *sorted(set({sorted(SLOW)!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text, _, names = done.stdout.rpartition("LOADED")
    return set(names.split()), text


@pytest.mark.parametrize("verb", WITHOUT_MODEL)
def test_help_loads_nothing_slow(verb):
    found, text = loaded(f"from vrm_pyro.cli import main\nassert main(['{verb}', '--help']) == 0")
    assert found == set()
    assert f"usage: vrm-pyro {verb}" in text


@pytest.mark.parametrize("verb", ["train", "doctor"])
def test_help_of_settings_is_short_and_loads_torch_and_pyro_alone(verb):
    found, text = loaded(f"from vrm_pyro.cli import main\nassert main(['{verb}', '--help']) == 0")
    assert found == {"torch", "pyro"}
    assert len(text.splitlines()) < 150
    assert "--help_all" in text
    assert "%%" not in text
    for name in ("model.backbone", "data.train", "tuning.method", "train.learning_rate"):
        assert f"--{name} " in text


def test_help_of_doctor_shows_its_own_option_and_not_those_of_train():
    _, text = loaded("from vrm_pyro.cli import main\nassert main(['doctor', '--help']) == 0")
    assert "--max_responses " in text
    assert "--overwrite" not in text
    assert "usage: vrm-pyro doctor" in text


def test_import_loads_nothing():
    assert loaded("import vrm_pyro")[0] == set()


def test_scoring_path_loads_what_it_needs():
    found, _ = loaded("from vrm_pyro.prediction.scorer import Scorer")
    assert found == {"torch", "pyro", "transformers"}


@pytest.mark.parametrize("verb", ["train", "doctor"])
def test_help_all_shows_every_setting_with_its_percent_signs_once(verb):
    text = succeed(verb, "--help_all").out
    assert "--train.gradient_checkpointing " in text
    assert "20% slower" in " ".join(text.split())
    assert "%%" not in text

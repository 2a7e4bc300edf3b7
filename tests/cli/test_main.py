"""The verbs, their help, and exit codes."""

import subprocess
import sys

import pytest
from helpers.workspace import process, vrm_pyro

import vrm_pyro as package
from vrm_pyro.cli import VERBS
from vrm_pyro.cli.parsing import configs_first
from vrm_pyro.cli.settings import read_settings
from vrm_pyro.cli.verbs.train import build_parser


def test_help_lists_every_verb():
    run = vrm_pyro("--help")
    assert run.code == 0
    assert [verb for verb in VERBS if f"  {verb} " not in run.out] == []


def test_version():
    assert vrm_pyro("--version") == (0, f"vrm-pyro {package.__version__}\n", "")


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_of_each_verb_teaches(verb):
    run = vrm_pyro(verb, "--help")
    assert run.code == 0
    assert "--config FILE" in run.out
    assert "default" in run.out
    assert len(run.out) > 600


def test_help_of_train_explains_settings_of_both_kinds():
    text = " ".join(vrm_pyro("train", "--help").out.split())
    assert "How token states become one vector" in text  # from a docstring
    assert "Evaluations without improvement" in text  # from the metadata of a field
    assert "AdamW weight decay" in text


def test_help_of_a_class():
    run = vrm_pyro("train", "--model.weight_prior.help", "DirichletPrior")
    assert run.code == 0
    assert "Below 1 a prompt is judged on a few objectives" in " ".join(run.out.split())


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ((), ("say what to do", "simulate", "doctor")),
        (("trian",), ("no verb 'trian'", "did you mean 'train'?")),
        (("frobnicate",), ("no verb 'frobnicate'", "simulate, features, train, search, evaluate")),
    ],
)
def test_unknown_verbs(arguments, fragments):
    run = vrm_pyro(*arguments)
    assert run.code == 2
    assert [part for part in fragments if part not in run.err] == []
    assert "Traceback" not in run.err


def test_overview_needs_no_library():
    code = (
        "import sys\n"
        "from vrm_pyro.cli import main\n"
        "before = set(sys.modules)\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'torch', 'pyro', 'transformers', 'datasets', 'jsonargparse', 'xarray'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_module_can_be_run():
    run = process("nothing")
    assert run.code == 2
    assert run.err.startswith("vrm-pyro nothing: no verb 'nothing'")
    assert "Traceback" not in run.err


def test_faults_of_ours_end_with_1_and_a_trace(monkeypatch):
    from vrm_pyro.cli.verbs import simulate

    def broken(argv):
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(simulate, "run", broken)
    run = vrm_pyro("simulate")
    assert run.code == 1
    assert "ZeroDivisionError: on purpose" in run.err
    assert "please report it" in run.err


@pytest.mark.parametrize(
    ("error", "code", "fragment"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "x.nc"), 2, "x.nc: No space left on device"),
        (OSError(5, "Input/output error"), 1, "Input/output error"),
    ],
)
def test_exit_codes(monkeypatch, error, code, fragment):
    from vrm_pyro.cli.verbs import simulate

    def broken(argv):
        raise error

    monkeypatch.setattr(simulate, "run", broken)
    run = vrm_pyro("simulate")
    assert run.code == code
    assert fragment in run.err
    assert ("Traceback" in run.err) == (code == 1)


def test_options_win_over_a_file_wherever_they_stand():
    for argv in (
        ["--model.latent_dim", "5", "--config", "ratings"],
        ["--config=ratings", "--model.latent_dim=5"],
    ):
        settings = read_settings(build_parser(), argv)
        assert settings.model.latent_dim == 5
        assert settings.model.objective == "integrated"  # of the file
    assert configs_first(["--a", "1", "--config", "x", "--config=y", "-b"]) == [
        "--config", "x", "--config=y", "--a", "1", "-b",
    ]  # fmt: skip
    assert configs_first(["--config"]) == ["--config"]

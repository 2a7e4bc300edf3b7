"""The public names of the package, and the lines of Python that the README shows."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.tiny_backbones import save_tiny_backbone
from helpers.workspace import rows, write_rows

import vrm_pyro

README = Path(__file__).parents[1] / "README.md"
# What the design promises; a name that goes, or another one, is a decision and not an accident.
PROMISED = re.findall(
    r"\w+",
    """
    load_table PreferenceTable split_by_prompt fold_by_prompt simulate_texts
    load_backbone Backbone encode_table write_store open_store Inputs
    ModelConfig VRM BradleyTerryModel build_model
    WeightPrior FeaturePrior Guide PreferenceLikelihood RatingLikelihood Objective
    TrainArguments TuningConfig DataConfig train fit search
    LoadedModel load_model save_model Scorer predict evaluate benchmark best_of_n acquire explain
    draw_posterior to_datatree write_posterior
    diagnose Finding sensitivity certify write_report
    VRMReward export_model VRMForSequenceClassification
    InputError __version__
    """,
)


def python(code, **settings):
    """Return what a fresh process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, **settings
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestNames:
    def test_they_are_those_that_are_promised(self):
        assert sorted(vrm_pyro.__all__) == sorted(PROMISED)
        assert set(PROMISED) <= set(dir(vrm_pyro))

    @pytest.mark.parametrize("name", PROMISED)
    def test_each_is_there_and_documented(self, name):
        found = getattr(vrm_pyro, name)
        if name != "__version__":
            assert found.__name__ == name
            assert found.__doc__

    def test_an_unknown_one_is_an_attribute_error(self):
        with pytest.raises(AttributeError, match="no attribute 'scorer'"):
            vrm_pyro.scorer  # noqa: B018
        with pytest.raises(ImportError):
            exec("from vrm_pyro import nothing_of_this_name")

    def test_the_types_for_editors_are_of_the_same_modules(self):
        stub = ast.parse(Path(vrm_pyro.__file__).with_suffix(".pyi").read_text("utf-8"))
        typed = {
            alias.name: node.module
            for node in stub.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert typed == vrm_pyro._MODULES
        declared = [n.target.id for n in stub.body if isinstance(n, ast.AnnAssign)]
        assert declared == ["__version__"]

    def test_the_parts_of_a_model_are_modules(self):
        for package, names in {
            "models": "priors guides likelihoods ratings objectives distributions",
            "diagnostics": "metrics checks certificates",
            "report": "plots",
        }.items():
            for name in names.split():
                importlib.import_module(f"vrm_pyro.{package}.{name}")

    def test_importing_the_package_imports_nothing_else(self):
        code = (
            "import sys; before = set(sys.modules); import vrm_pyro; dir(vrm_pyro)\n"
            "print(sorted({n.partition('.')[0] for n in set(sys.modules) - before}))"
        )
        loaded = set(ast.literal_eval(python(code)))
        assert "vrm_pyro" in loaded
        assert not loaded & {"torch", "pyro", "transformers", "datasets", "numpy", "jsonargparse"}

    def test_help_loads_no_torch(self):
        code = (
            "import sys; from vrm_pyro.cli import main; assert main(['--help']) == 0\n"
            "assert not {'torch', 'pyro', 'transformers', 'datasets'} & set(sys.modules)"
        )
        assert "usage: vrm-pyro" in python(code)


@pytest.mark.slow
def test_the_lines_of_the_readme_go_from_rows_to_an_explanation(tmp_path):
    section = README.read_text("utf-8").partition("In Python\n")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code is not None, "README.md has no Python under 'In Python'"
    write_rows(tmp_path / "rows.jsonl", rows(24, seed=0))
    write_rows(tmp_path / "test.jsonl", rows(8, seed=1))
    save_tiny_backbone(tmp_path / "tiny")
    # The same lines, with a backbone that needs no download and a training that takes a second.
    patch = (
        "import vrm_pyro.training.run.read_settings as r\n"
        "read = r.read_settings\n"
        "small = {'model.backbone': 'tiny', 'model.max_length': 64, 'train.use_cpu': True,\n"
        "         'train.num_train_epochs': 2, 'train.disable_tqdm': True}\n"
        "import vrm_pyro.training.run.fit as f\n"
        "f.read_settings = lambda config, given: read(config, {**given, **small})\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    out = python(patch + code[1], cwd=tmp_path, env=environment)
    assert (tmp_path / "runs/rated/config.yaml").is_file()
    assert "accuracy" in out

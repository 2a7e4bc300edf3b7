import sys

import pytest
from helpers.workspace import vrm_pyro

from vrm_pyro.errors import InputError
from vrm_pyro.models.settings.run_file import read_run_file, refuse_imports

PRIOR = "model:\n  weight_prior: {entry}\ndata: {{train: rows.jsonl}}\n"


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """The folder of a run from elsewhere, with a module that tells when it is run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign_prior.py").write_text("open('it_ran', 'w').close()\n")
    yield tmp_path
    sys.modules.pop("foreign_prior", None)


@pytest.mark.parametrize(
    "entry",
    [
        "foreign_prior.Prior",
        "{class_path: foreign_prior.Prior}",
        "{class_path: DirichletPrior, init_args: {a: {class_path: foreign_prior.Prior}}}",
        '\'{"class_path": "foreign_prior.Prior"}\'',
    ],
)
def test_a_run_folder_never_imports(foreign, entry):
    (foreign / "config.yaml").write_text(PRIOR.format(entry=entry))
    run = vrm_pyro(
        "train", "--train.output_dir", foreign, "--train.resume_from_checkpoint", "true"
    )
    assert run.code == 2
    assert "config.yaml: model.weight_prior names" in run.err
    assert not (foreign / "it_ran").exists()


def test_what_the_user_names_may_be_imported(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(PRIOR.format(entry="{class_path: my_priors.Mine}"))
    settings = read_run_file(path)
    refuse_imports(settings, path, ["--model.weight_prior", "my_priors.Mine"])
    with pytest.raises(InputError, match="--model.weight_prior my_priors.Mine"):
        refuse_imports(settings, path, ["--model.weight_prior", "my_priors.Other"])


def test_classes_of_the_package_need_no_name(tmp_path):
    path = tmp_path / "config.yaml"
    for entry in ("DirichletPrior", "{class_path: vrm_pyro.priors.DirichletPrior}"):
        path.write_text(PRIOR.format(entry=entry))
        refuse_imports(read_run_file(path), path, [])


def test_classes_that_no_model_asks_for_are_not_imported(foreign):
    from vrm_pyro.models.settings.own_classes import own_classes

    with pytest.raises(InputError, match="no class 'Prior'; it asks for Mine"):
        own_classes("foreign_prior.Prior", {"Mine"})
    assert not (foreign / "it_ran").exists()

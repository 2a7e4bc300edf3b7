"""The example of docs/howto/extending.md, run as it stands there."""

import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from helpers.problems import Arrays, small_batch

from vrm_pyro.cli.settings import read_settings, run_parser
from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import load_model, save_model
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.train import train

PAGE = Path(__file__).resolve().parents[1] / "docs" / "howto" / "extending.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Put the page's files in a folder that Python imports from."""
    (tmp_path / "my_priors.py").write_text(blocks("python")[0], "utf-8")
    (tmp_path / "mixture.yaml").write_text(blocks("yaml")[0], "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("my_priors", None)


def read(folder, *options):
    return read_settings(
        run_parser("train", "test"), ["--config", str(folder / "mixture.yaml"), *options]
    )


def test_a_mixture_prior_trains_saves_and_loads(example):
    assert yaml.safe_load(blocks("yaml")[0])["model"]["objective"] == "integrated"
    config = read(example).model
    prior = config.weight_prior
    assert (type(prior).__name__, prior.components) == ("MixturePrior", 2)
    source = Arrays(small_batch(30, ratings=False, dtype=torch.float32))
    arguments = TrainArguments(
        output_dir=str(example / "run"), num_train_epochs=3, use_cpu=True, disable_tqdm=True
    )
    with pytest.warns(UserWarning, match="KL of w: no closed form"):
        loaded = train(config, arguments, source, source).loaded
    save_model(loaded, example)
    with pytest.raises(InputError, match="no class 'MixturePrior'"):
        load_model(example)
    again = load_model(example, classes=[type(prior)])
    batch = small_batch(5, ratings=False, dtype=torch.float32)
    with torch.no_grad():
        chance = again.model.predict_pairs(batch)
        assert torch.equal(chance, loaded.model.eval().predict_pairs(batch))
    assert ((chance > 0) & (chance < 1)).all()


def test_an_objective_that_needs_reparameterised_draws_refuses_it(example):
    config = read(example, "--model.objective", "pairwise").model
    source = Arrays(small_batch(30, ratings=False, dtype=torch.float32))
    arguments = TrainArguments(output_dir=str(example / "run"), use_cpu=True, disable_tqdm=True)
    with pytest.raises(InputError, match="Use integrated, or sampled"):
        train(config, arguments, source, source)

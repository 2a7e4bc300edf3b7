"""The examples of docs/howto/extending.md, run as they stand there."""

import re
import sys
from dataclasses import replace
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


FILES = ("my_priors", "my_guides", "my_likelihoods")


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Put the page's files in a folder that Python imports from."""
    for name, code, settings in zip(FILES, blocks("python"), blocks("yaml"), strict=True):
        (tmp_path / f"{name}.py").write_text(code, "utf-8")
        (tmp_path / f"{name}.yaml").write_text(settings, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name, None)


def read(folder, *options, name="my_priors"):
    return read_settings(
        run_parser("train", "test"), ["--config", str(folder / f"{name}.yaml"), *options]
    )


def trained(folder, name):
    """Train with the settings of the page, save, load again."""
    config = read(folder, name=name).model
    source = Arrays(small_batch(60, ratings=False, dtype=torch.float32))
    arguments = TrainArguments(
        output_dir=str(folder / "run"), num_train_epochs=3, use_cpu=True, disable_tqdm=True
    )
    loaded = train(config, arguments, source, source).loaded
    save_model(loaded, folder)
    kind = type(config.guide if name == "my_guides" else config.likelihood)
    return loaded, load_model(folder, classes=[kind])


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


def test_a_guide_of_ones_own_trains_saves_and_loads(example):
    loaded, again = trained(example, "my_guides")
    assert type(again.config.guide).__name__ == "WinsGuide"
    assert torch.equal(again.model.guide.direction, loaded.model.guide.direction)
    batch = again.model.standardize(small_batch(5, ratings=False, dtype=torch.float32))
    with torch.no_grad():
        conditionals = again.model.conditionals(batch)
        moved = again.model.guide.features(batch, conditionals).mean - conditionals.gaussian.loc
        # Pairs of weight 0 are no outcomes: without outcomes nothing moves.
        nobody = replace(batch, pair_weight=torch.zeros_like(batch.pair_weight))
        stays = again.model.guide.features(nobody, conditionals).mean
    assert (moved != 0).any()
    assert torch.equal(stays, conditionals.gaussian.loc)


def test_a_likelihood_of_ones_own_trains_saves_and_loads(example):
    loaded, again = trained(example, "my_likelihoods")
    cauchit = again.config.likelihood
    assert type(cauchit).__name__ == "Cauchit"
    delta = torch.linspace(-40, 40, 81, dtype=torch.float64, requires_grad=True)
    one = torch.ones_like(delta)
    # The four functions agree with each other, and exchange turns Delta round.
    (slope,) = torch.autograd.grad(cauchit.log_prob(delta, one).sum(), delta)
    torch.testing.assert_close(slope, cauchit.score(delta, one))
    p = cauchit.probability(delta)
    torch.testing.assert_close(p, 1 - cauchit.probability(-delta))
    torch.testing.assert_close(
        cauchit.information(delta),
        p * cauchit.score(delta, one) ** 2 + (1 - p) * cauchit.score(delta, 0 * one) ** 2,
    )
    batch = small_batch(5, ratings=False, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(
            again.model.predict_pairs(batch), loaded.model.eval().predict_pairs(batch)
        )

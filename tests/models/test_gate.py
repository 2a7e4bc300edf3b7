"""The gate over ratings: ridge scores, softmax weights, no spread."""

import numpy as np
import pytest
import torch
from helpers.problems import Arrays, small_batch

from vrm_pyro.data.source import with_objectives
from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import LoadedModel, load_model, save_model
from vrm_pyro.models.distributions import TextStreams
from vrm_pyro.models.gate import GateModel
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.settings.config import DataFacts, ModelConfig, check_data, check_settings
from vrm_pyro.prediction.scorer import score_source
from vrm_pyro.training.finetuning.config import check_tuned
from vrm_pyro.training.gate_scores import PENALTIES, fit_gate_scores
from vrm_pyro.training.module import TrainingModule
from vrm_pyro.training.preparation import fit_scalers

CONFIG = ModelConfig(architecture="gate", head_size=8, head_dropout=0.0)


@pytest.fixture
def batch():
    return small_batch(20, dtype=torch.float32)


@pytest.fixture
def model(batch):
    torch.manual_seed(0)
    found = build_model(CONFIG, batch.prompts.shape[1], batch.ratings.shape[1], True)
    found.set_rating_unit(3.0, 2.0)
    with torch.no_grad():
        found.ridge.copy_(torch.randn_like(found.ridge))
    return found.eval()


@torch.no_grad()
def test_reward_is_the_weighted_sum_of_scores(model, batch):
    assert isinstance(model, GateModel)
    found = model.predict_responses(batch)
    assert found.weight_mean.sum(-1) == pytest.approx(torch.ones(batch.num_responses))
    total = 3 * (found.weight_mean * found.score_mean).sum(-1)
    assert torch.allclose(found.reward.mean, total, atol=1e-5)
    assert (found.reward.variance == 0).all()
    delta = total[batch.pair_first] - total[batch.pair_second]
    assert torch.allclose(model.predict_pairs(batch), torch.sigmoid(delta), atol=1e-6)
    stream = torch.Generator()
    draws = model.draw_rewards(batch, 3, TextStreams(stream, stream, stream))
    assert torch.allclose(draws, total.expand(3, -1), atol=1e-5)
    loc, variance = model.reward_mixture(batch, 16)
    assert torch.allclose(loc.squeeze(), total, atol=1e-5)
    assert (variance == 0).all()


def test_training_moves_the_gate_and_not_the_scores(model, batch):
    module = TrainingModule(model, CONFIG, batch.num_prompts)
    module.train()
    parts = {name: value for name, value in vars(batch).items() if value is not None}
    module(**parts)["loss"].backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None}
    assert moved == {name for name, _ in model.named_parameters()}
    assert all(name.startswith("gate.") or name == "log_scale" for name in moved)


def test_scores_are_a_ridge_regression():
    """Against the textbook solution at the penalty that was chosen."""
    rng = np.random.default_rng(0)
    states = rng.normal(1.0, 2.0, size=(90, 5)).astype(np.float32)
    truth = states @ rng.normal(size=(5, 2))
    ratings = 3 + truth + rng.normal(size=truth.shape)
    ratings[::7, 0] = np.nan

    class Source:
        prompts, responses, objectives = states[:30], states, ("a", "b")
        response_prompt = np.repeat(np.arange(30), 3)

    Source.ratings = ratings
    model = GateModel(5, 2)
    fit_scalers(model, Source)
    model.set_rating_unit(2.0, 4.0)
    chosen = fit_gate_scores(model, Source)
    assert set(chosen) <= set(PENALTIES)
    x = (states - states.mean(0)) / states.std(0)
    for k, penalty in enumerate(chosen):
        rows = ~np.isnan(ratings[:, k])
        y = (ratings[rows, k] - 2.0) / 4.0
        centred = x[rows] - x[rows].mean(0)
        slope = np.linalg.solve(
            centred.T @ centred + penalty * np.eye(5), centred.T @ (y - y.mean())
        )
        fitted = y.mean() + (x - x[rows].mean(0)) @ slope
        found = model.scores(torch.from_numpy(states))[:, k].detach().numpy()
        assert found == pytest.approx(fitted, abs=1e-4)


def test_an_objective_without_ratings_has_score_0(batch):
    view = with_objectives(Arrays(batch), ())
    model = GateModel(batch.prompts.shape[1], 2)
    source = type("Source", (), {})()
    source.responses = view.responses
    source.ratings = np.full((batch.num_responses, 2), np.nan)
    assert fit_gate_scores(model, source) == [PENALTIES[-1]] * 2
    assert (model.ridge == 0).all()


def test_it_is_saved_and_scores_in_raw_ratings(model, batch, tmp_path):
    names = tuple("abcdefgh"[: batch.ratings.shape[1]])
    save_model(LoadedModel(model, CONFIG, names, True, {}), tmp_path)
    again = load_model(tmp_path)
    source = Arrays(batch)
    found, kept = score_source(model, source), score_source(again.model, source)
    assert np.array_equal(found.reward, kept.reward)
    assert again.members == ()
    standard = model.scores(torch.as_tensor(np.asarray(source.responses))).detach().numpy()
    assert found.scores == pytest.approx(standard * 2 + 3, abs=1e-4)
    assert found.weights.sum(1) == pytest.approx(1, abs=1e-5)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="scores are learned from ratings"):
        check_data(CONFIG, DataFacts((), 1, 10))
    with pytest.raises(InputError, match="point estimates alone"):
        check_settings(ModelConfig(architecture="gate", bayesian_head=True))
    with pytest.raises(InputError, match=r"fitted to states.*frozen"):
        check_tuned(CONFIG)

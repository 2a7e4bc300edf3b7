"""Every likelihood of the table inside model, objectives and checkpoint."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.configs import network_config
from helpers.problems import Arrays, small_batch, small_model

from vrm_pyro.models.checkpoint import (
    LoadedModel,
    load_model,
    save_model,
    settings_from_json,
    settings_to_json,
)
from vrm_pyro.models.likelihoods import PREFERENCE_LIKELIHOODS, Graded
from vrm_pyro.models.objectives import OBJECTIVES
from vrm_pyro.models.objectives.base import Weights
from vrm_pyro.models.objectives.pairwise import pair_log_prob
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.prediction.posterior import draw_posterior

LIKELIHOODS = {name: kind() for name, kind in PREFERENCE_LIKELIHOODS.items()}
LIKELIHOODS["Graded6"] = Graded(6, (0.4, 2.0))
ALL = pytest.mark.parametrize("likelihood", LIKELIHOODS.values(), ids=list(LIKELIHOODS))


def problem(likelihood):
    """Return a model and a batch whose labels go through all outcomes, soft ones between."""
    model = small_model()
    model.likelihood = likelihood.build()
    batch = small_batch(single_use=True)
    soft = torch.linspace(0, 1, 2 * len(likelihood.outcomes) - 1).double()
    preference = soft.repeat(batch.num_pairs)[: batch.num_pairs]
    return model, replace(batch, preference=preference)


@ALL
@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_every_objective_trains_it(likelihood, objective):
    model, batch = problem(likelihood)
    batch = model.standardize(batch)
    terms = OBJECTIVES[objective]().terms(
        model, model.guide, batch, model.conditionals(batch), Weights()
    )
    assert terms.objective.isfinite()
    terms.objective.backward()
    reached = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert all(gradient.isfinite().all() for gradient in reached.values())
    if model.likelihood is not likelihood:
        for name, _ in model.likelihood.named_parameters():
            assert reached[f"likelihood.{name}"].abs().max() > 0


@ALL
def test_pairs_are_normalised_with_features_and_weights_integrated(likelihood):
    model, batch = problem(likelihood)
    batch = model.standardize(batch)
    with torch.no_grad():
        conditionals, total = model.conditionals(batch), 0.0
        for c in likelihood.outcomes:
            torch.manual_seed(0)  # the same draws of w for every outcome
            labelled = replace(batch, preference=torch.full_like(batch.preference, c))
            total = total + pair_log_prob(labelled, conditionals, num_draws=8).exp()
    assert torch.allclose(total, torch.ones_like(total), rtol=0, atol=1e-12)


@ALL
def test_a_saved_model_has_it_again(likelihood, tmp_path):
    config = network_config(likelihood=likelihood)
    values = json.loads(json.dumps(settings_to_json(config)))
    assert settings_from_json(values, "here") == config
    model = build_model(config, 3, 2, False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3)
    save_model(LoadedModel(model.eval(), config, ("a", "b"), False, {}), tmp_path)
    loaded = load_model(tmp_path).model.likelihood
    delta = torch.linspace(-3, 3, 7)
    assert loaded.outcomes == likelihood.outcomes
    for c in likelihood.outcomes:
        label = torch.full_like(delta, c)
        assert torch.equal(loaded.log_prob(delta, label), model.likelihood.log_prob(delta, label))


@ALL
def test_drawn_preferences_are_outcomes_and_follow_the_rewards(likelihood):
    model, batch = problem(likelihood)
    num_draws = 2000
    groups = draw_posterior(model, Arrays(batch), num_draws).groups
    constant, reward = groups["constant_data"], torch.from_numpy(groups["prior"]["r"]).double()
    delta = reward[:, constant["pair_first"]] - reward[:, constant["pair_second"]]
    drawn = groups["prior_predictive"]["preference"]
    with torch.no_grad():
        chance = model.likelihood.outcome_probabilities(delta).numpy()
    for level, c in enumerate(likelihood.outcomes):
        seen, p = (drawn == np.float32(c)).mean(0), chance[..., level]
        error = np.sqrt((p * (1 - p)).mean(0) / num_draws)
        assert (np.abs(seen - p.mean(0)) < 4.5 * error).all()

"""One objective: a reward with a spread and no weights, Bradley-Terry with ambiguity."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch
from helpers.configs import network_config
from helpers.problems import HIDDEN_SIZE, allowed, small_batch
from scipy import stats
from torch.nn.functional import logsigmoid

from vrm_pyro.errors import InputError
from vrm_pyro.models.guides import GUIDES, DeltaGuide, LabelBlindGuide, OutcomeAwareGuide
from vrm_pyro.models.objectives import OBJECTIVES
from vrm_pyro.models.objectives.base import Weights
from vrm_pyro.models.priors import WEIGHT_PRIORS, ConditionalNormalPrior, NormalPrior
from vrm_pyro.models.ratings import RATING_LIKELIHOODS
from vrm_pyro.models.reference_kl import kl_weights
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.settings.compatibility import check_program
from vrm_pyro.models.settings.config import (
    DataFacts,
    build_objective,
    check_data,
    check_settings,
)
from vrm_pyro.training.module import TrainingModule

BATCH = small_batch(6, num_objectives=1, single_use=True, dtype=torch.float32)
UNIT_BATCH = replace(BATCH, ratings=torch.sigmoid(BATCH.ratings))
FACTS = DataFacts(("overall",), 1, 12)


def config_of(mode, weight_prior, guide, objective, rating="GaussianRatings", **more):
    feature_prior = NormalPrior() if mode == "vib" else ConditionalNormalPrior(4)
    return network_config(
        mode=mode,
        weight_prior=WEIGHT_PRIORS[weight_prior](),
        feature_prior=feature_prior,
        guide=GUIDES[guide](),
        objective=objective,
        rating_likelihood=RATING_LIKELIHOODS[rating](),
        latent_dim=2,
        num_draws=2,
        **more,
    )


TABLES = (("conditional", "vib"), WEIGHT_PRIORS, GUIDES, OBJECTIVES)
ALLOWED = [
    names for names in itertools.product(*map(sorted, TABLES)) if allowed(config_of(*names), FACTS)
]
BY_RATINGS = [
    ("conditional", "DirichletPrior", "OutcomeAwareGuide", *names)
    for names in itertools.product(sorted(OBJECTIVES), sorted(RATING_LIKELIHOODS))
]
BY_RATINGS = [names for names in BY_RATINGS if allowed(config_of(*names), FACTS)]


def model_of(config=None, rated=True, seed=0):
    torch.manual_seed(seed)
    config = config or network_config(latent_dim=2, feature_prior=ConditionalNormalPrior(0))
    return build_model(config, HIDDEN_SIZE, 1, rated)


@pytest.mark.parametrize("names", ALLOWED + BY_RATINGS, ids=" ".join)
def test_every_combination_trains(names):
    config = config_of(*names)
    batch = UNIT_BATCH if config.rating_likelihood.scale_kind == "unit" else BATCH
    model = model_of(config)
    check_program(model, config.objective)
    module = TrainingModule(model, config, batch.num_prompts).train()
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.01, weight_decay=0.0)
    for step in range(3):
        with pyro.validation_enabled(step == 0):
            loss = module(**batch.as_dict())["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert math.isfinite(loss.item())
    stayed = {n for n, v in module.named_parameters() if torch.equal(v, before[n])}
    # Intercepts cancel in differences.
    allowed = set() if config.rating_likelihood.levels_known else {"model.reward.intercept"}
    assert not {n for n in stayed if "reward" in n or "feature_prior" in n} - allowed
    assert not list(model.weight_prior.parameters())
    module.eval()
    with torch.no_grad(), pyro.validation_enabled(False):
        result = module(**batch.as_dict())
    assert result["sums"].isfinite().all()
    logged = module.take_log()
    assert all(map(math.isfinite, logged.values())), logged
    assert logged["kl_weights"] == logged["active_units_weights"] == 0


def test_both_modes_and_all_objectives_are_among_them():
    assert {names[0] for names in ALLOWED} == {"conditional", "vib"}
    assert {names[1] for names in ALLOWED} == set(WEIGHT_PRIORS)
    assert {names[2] for names in ALLOWED} == set(GUIDES)
    assert {names[3] for names in ALLOWED} == set(OBJECTIVES)


@pytest.mark.parametrize("bayesian", [False, True])
@pytest.mark.parametrize("covariance", ["diagonal", "laplace"])
def test_a_bayesian_head_trains(bayesian, covariance):
    if not bayesian and covariance == "laplace":
        return
    config = config_of(
        "conditional",
        "ConditionalDirichletPrior",
        "OutcomeAwareGuide",
        "pairwise",
        bayesian_head=bayesian,
        head_covariance=covariance,
    )
    module = TrainingModule(model_of(config), config, 6).train()
    module(**BATCH.as_dict())["loss"].backward()
    names = () if not bayesian else module.model.parameter_posterior.names
    assert not any(name.startswith("weight_prior") for name in names)


@pytest.mark.parametrize("guide", [LabelBlindGuide(), DeltaGuide(), OutcomeAwareGuide()])
def test_the_weight_is_one_and_costs_nothing(guide):
    mode = "conditional" if guide.outcome_aware else "vib"
    config = network_config(
        mode=mode,
        guide=guide,
        feature_prior=ConditionalNormalPrior(4) if mode == "conditional" else NormalPrior(),
        weight_prior=WEIGHT_PRIORS["DirichletPrior"](),
        objective="integrated",
        latent_dim=2,
    )
    model = model_of(config)
    assert not model.weights_follow_prompt
    batch = model.standardize(BATCH)
    heads = model.conditionals(batch)
    terms = build_objective(config).terms(model, model.guide, batch, heads, Weights())
    assert terms.kl_weights.item() == 0
    weights = model.predictive_latents(BATCH).weights
    assert (weights.sample((5,)) == 1).all()
    assert torch.equal(kl_weights(weights), torch.zeros(6, dtype=torch.float64))
    with torch.no_grad():
        found = model.predict_responses(BATCH)
    assert (found.weight_mean == 1).all()
    for part in (found.reward.from_weights, found.reward.interaction):
        assert (part == 0).all()
    assert torch.allclose(found.reward.variance, found.reward.from_features)


def test_probability_is_that_of_a_normal_difference():
    """p(c) = E sigmoid(Delta), Delta ~ N(a'(m_1 - m_2), a'(S_1 + S_2) a), by quadrature."""
    config = network_config(
        latent_dim=2, feature_prior=ConditionalNormalPrior(0), reward_scale=1.0, supervision="none"
    )
    model = model_of(config, rated=False).double().eval()
    batch = small_batch(5, num_objectives=1)
    with torch.no_grad():
        law = model.predictive_features(batch.responses)
        a = (model.reward().scale * model.reward().loading).squeeze(0)
        mean = (law.mean @ a).numpy()
        variance = (law.variance @ a**2).numpy()
        found = model.predict_pairs(batch).numpy()
        uncertain = model.pair_uncertainty(batch)
    first, second = batch.pair_first.numpy(), batch.pair_second.numpy()
    loc, scale = mean[first] - mean[second], np.sqrt(variance[first] + variance[second])
    grid = np.linspace(-12, 12, 20001)
    mass = stats.norm.pdf(grid)
    values = 1 / (1 + np.exp(-(loc[:, None] + scale[:, None] * grid)))
    exact = (values * mass).sum(1) / mass.sum()
    np.testing.assert_allclose(found, exact, atol=1e-6)
    np.testing.assert_allclose(uncertain.mean.numpy(), loc, rtol=1e-9)
    np.testing.assert_allclose(uncertain.ambiguity.numpy(), scale**2, rtol=1e-9)


@pytest.mark.parametrize("objective", ["sampled", "integrated", "pairwise", "collapsed"])
def test_without_spread_its_gradient_is_that_of_bradley_terry(objective):
    """The limit of a latent scale of 0, up to terms of the order of the variance."""
    config = network_config(
        latent_dim=1,
        scores="identity",
        supervision="none",
        objective=objective,
        reward_scale=1.0,
        feature_prior=ConditionalNormalPrior(0, initial_scale=1.2e-3, learn_scale=False),
    )
    model = model_of(config, rated=False).double()
    batch = small_batch(5, num_objectives=1, ratings=False, single_use=True)
    with torch.no_grad():  # q(z) adds nothing: the scale of p is at its floor
        model.guide.feature_site[-1].bias.fill_(-30.0)
        model.guide.feature_site[-1].weight.zero_()
    standard = model.standardize(batch)
    heads = model.conditionals(standard)
    terms = build_objective(config).terms(model, model.guide, standard, heads, Weights())
    layer = model.feature_prior.network.body[-1]
    found = torch.autograd.grad(terms.objective, [layer.weight])[0]
    reward = model.feature_prior.network.body(batch.responses).squeeze(-1)
    delta = reward[batch.pair_first] - reward[batch.pair_second]
    c = batch.preference
    value = batch.pair_weight * (c * logsigmoid(delta) + (1 - c) * logsigmoid(-delta))
    exact = torch.autograd.grad(value.sum(), [layer.weight])[0]
    tolerance = 0.02 if objective == "sampled" else 1e-5
    assert (found - exact).norm() < tolerance * exact.norm()


def test_weights_of_one_objective_cannot_be_supervised():
    config = network_config(
        mode="vib",
        feature_prior=NormalPrior(),
        guide=LabelBlindGuide(),
        weight_prior=WEIGHT_PRIORS["DirichletPrior"](),
        objective="integrated",
        supervision="weights",
    )
    check_settings(config)
    with pytest.raises(InputError, match="1 objective, whose weight is always 1"):
        check_data(config, FACTS)

"""Every combination of parts that the settings allow trains: a new entry of a table joins in."""

import itertools
import math
import warnings
from dataclasses import replace
from pathlib import Path

import pyro
import pytest
import torch
from helpers.configs import network_config
from helpers.problems import HIDDEN_SIZE, Arrays, allowed, small_batch
from transformers import set_seed

from vrm_pyro.models.checkpoint import LoadedModel, load_model, save_model
from vrm_pyro.models.guides import GUIDES, DeltaGuide, LogisticNormalGuide
from vrm_pyro.models.likelihoods import PREFERENCE_LIKELIHOODS
from vrm_pyro.models.objectives import OBJECTIVES
from vrm_pyro.models.priors import (
    FEATURE_PRIORS,
    WEIGHT_PRIORS,
    DirichletPrior,
    LogisticNormalPrior,
)
from vrm_pyro.models.ratings import RATING_LIKELIHOODS
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.settings.compatibility import check_program
from vrm_pyro.models.settings.config import DataFacts, check_data, check_settings
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.module import TrainingModule
from vrm_pyro.training.preparation import fit_scalers
from vrm_pyro.training.train import train

OBJECTIVE_NAMES = ("objective_0", "objective_1", "objective_2")
FACTS = DataFacts(OBJECTIVE_NAMES, 1, 12)
BATCH = small_batch(6, single_use=True, dtype=torch.float32)
UNIT_BATCH = replace(BATCH, ratings=torch.sigmoid(BATCH.ratings))


def config_of(mode, weight_prior, feature_prior, guide, objective, rating="GaussianRatings"):
    return network_config(
        mode=mode,
        weight_prior=WEIGHT_PRIORS[weight_prior](),
        feature_prior=FEATURE_PRIORS[feature_prior](),
        guide=GUIDES[guide](),
        objective=objective,
        latent_dim=2,
        num_draws=2,
        rating_likelihood=RATING_LIKELIHOODS[rating](),
    )


TABLES = (("conditional", "vib"), WEIGHT_PRIORS, FEATURE_PRIORS, GUIDES, OBJECTIVES)
ALL = list(itertools.product(*map(sorted, TABLES)))
ALLOWED = [names for names in ALL if allowed(config_of(*names), FACTS)]
BY_RATINGS = [
    (
        "conditional",
        "ConditionalDirichletPrior",
        "ConditionalNormalPrior",
        guide,
        objective,
        rating,
    )
    for guide, objective, rating in itertools.product(
        sorted(GUIDES), sorted(OBJECTIVES), sorted(RATING_LIKELIHOODS)
    )
]
BY_RATINGS = [names for names in BY_RATINGS if allowed(config_of(*names), FACTS)]


def name_of(names):
    return " ".join(names)


def steps(config, num_steps=3):
    """Train a few steps with a plain optimiser; return the module, the losses and what stayed."""
    check_settings(config)
    check_data(config, FACTS)
    unit = config.rating_likelihood.scale_kind == "unit"
    batch = UNIT_BATCH if unit else BATCH
    set_seed(0)
    model = build_model(config, HIDDEN_SIZE, 3, rated=True)
    if config.objective in ("sampled", "pairwise"):  # reads distributions; pairwise asks for more
        check_program(model, config.objective)
    fit_scalers(model, Arrays(batch))
    module = TrainingModule(model, config, batch.num_prompts).train()
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.01, weight_decay=0.0)
    losses = []
    for step in range(num_steps):
        # As in training: Pyro checks the first steps.
        with pyro.validation_enabled(step == 0):
            loss = module(**batch.as_dict())["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    stayed = {n for n, value in module.named_parameters() if torch.equal(value, before[n])}
    return module, losses, stayed


def unused(name, config):
    """Whether an objective has no use for a parameter."""
    if name == "model.reward.intercept":  # only ratings see a level
        return config.supervision != "scores"
    # z is integrated out of the collapsed program: nothing proposes it.
    return config.objective == "collapsed" and name.startswith(
        ("model.guide.feature_site", "model.guide.flow")
    )


def check_trains(config):
    module, losses, stayed = steps(config)
    assert all(map(math.isfinite, losses))
    assert [name for name in stayed if not unused(name, config)] == []
    module.eval()
    with torch.no_grad(), pyro.validation_enabled(False):
        result = module(**BATCH.as_dict())
    assert result["loss"].isfinite()
    assert result["sums"].isfinite().all()
    logged = module.take_log()
    assert all(map(math.isfinite, logged.values())), logged


@pytest.mark.parametrize("names", ALLOWED, ids=name_of)
def test_allowed_combination_trains(names):
    check_trains(config_of(*names))


@pytest.mark.parametrize("names", BY_RATINGS, ids=name_of)
def test_every_rating_likelihood_trains(names):
    check_trains(config_of(*names))


@pytest.mark.parametrize(
    "change",
    [
        {"weight_prior": DirichletPrior(2.0, learn=True)},
        {"weight_prior": LogisticNormalPrior(learn=True)},
        {"weight_prior": DirichletPrior(2.0, learn=True), "objective": "pairwise"},
        {"objective": "integrated", "supervision": "none"},
        {"scores": "identity", "latent_dim": 0},
        {"mode": "vib", "guide": LogisticNormalGuide(), "supervision": "weights"},
        {"mode": "vib", "guide": DeltaGuide(), "supervision": "weights"},
        {"mode": "vib", "guide": LogisticNormalGuide(), "kl_weights": 0.1, "free_bits_weights": 1},
    ],
    ids=str,
)
def test_choices_within_a_class_train(change):
    config = network_config(latent_dim=2, objective="integrated")
    if change.get("mode") == "vib":
        config = config_of("vib", "DirichletPrior", "NormalPrior", "LabelBlindGuide", "integrated")
    check_trains(replace(config, **change))


def test_tables_are_covered():
    """Each entry is in an allowed combination, and what is left out is left out for a reason."""
    for position, table in enumerate(TABLES):
        assert {names[position] for names in ALLOWED} == set(table)
    assert {names[5] for names in BY_RATINGS} == set(RATING_LIKELIHOODS)
    conditional = [names for names in ALLOWED if names[0] == "conditional"]
    # A latent that follows no text is for `vib`; all prompts may share a distribution of weights.
    assert {names[1] for names in conditional} == set(WEIGHT_PRIORS)
    assert {n for n in GUIDES if GUIDES[n].outcome_aware} == {names[3] for names in conditional}


TRAINED = [
    ("conditional", "ConditionalLogisticNormalPrior", "CorrelatedNormalPrior", guide, objective)
    for guide in ("OutcomeAwareGuide", "FlowGuide")
    for objective in sorted(OBJECTIVES)
]


@pytest.mark.parametrize("names", [n for n in TRAINED if n in ALLOWED], ids=name_of)
def test_each_objective_through_the_trainer(tmp_path, names):
    config = config_of(*names)
    arguments = TrainArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=2,
        per_device_train_batch_size=3,
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=1,
    )
    source = Arrays(BATCH)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "KL of z: no closed form", UserWarning)
        result = train(config, arguments, source, source)
    assert math.isfinite(result.metrics["eval_log_loss"])
    assert math.isfinite(result.metrics["eval_elbo"])
    save_model(result.loaded, tmp_path)
    again = load_model(tmp_path)
    assert isinstance(again, LoadedModel)
    assert again.config == config
    probability = result.loaded.model.predict_pairs(BATCH)
    assert torch.equal(again.model.predict_pairs(BATCH), probability)


def test_the_page_of_the_model_names_every_class():
    docs = Path(__file__).resolve().parents[2] / "docs"
    page = (docs / "explanation" / "model.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for table in (*TABLES[1:], RATING_LIKELIHOODS, PREFERENCE_LIKELIHOODS):
        for name in table:
            assert any(line.startswith(f"| `{name}`") for line in rows), name

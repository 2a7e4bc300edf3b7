"""The loss of a step: what counts once for the data set, and what a tie is worth."""

from dataclasses import replace

import pytest
import torch
from helpers.configs import network_config
from helpers.problems import HIDDEN_SIZE, small_batch, small_model

from vrm_pyro.models.epistemic.base import head_parameters
from vrm_pyro.models.epistemic.diagonal import DiagonalPosterior
from vrm_pyro.models.likelihoods import Davidson, Lapse
from vrm_pyro.models.priors import ShrinkageDirichletPrior
from vrm_pyro.training.module import TrainingModule

POPULATION = 7  # neither the 5 prompts of the batch nor its 9 pairs


def loss(model, batch, population):
    torch.manual_seed(3)
    module = TrainingModule(model.train(), network_config(), population)
    return module(**batch.as_dict())["loss"].item()


def with_likelihood(likelihood):
    model = small_model(ratings=False)
    model.likelihood = likelihood.build()
    with torch.no_grad():
        for parameter in model.likelihood.parameters():
            parameter.add_(2.0)
    return model, -model.likelihood.log_prior().item()


def with_head():
    model = small_model(ratings=False)
    found = head_parameters(model.reward, {"feature_prior": model.feature_prior})
    model.parameter_posterior = DiagonalPosterior(found, 0.7, 4).double()
    return model, model.parameter_posterior.divergence(model).item()


def with_map():
    model = small_model(ratings=False)
    model.weight_prior = ShrinkageDirichletPrior().build(HIDDEN_SIZE, 3).double()
    with torch.no_grad():
        model.weight_prior.loc.add_(0.1)
    return model, model.weight_prior.divergence().item()


@pytest.mark.parametrize(
    "problem",
    [lambda: with_likelihood(Davidson()), lambda: with_likelihood(Lapse()), with_head, with_map],
    ids=["Davidson", "Lapse", "head", "map"],
)
def test_what_is_global_is_charged_once_for_the_data_set(problem):
    """The loss is per prompt: each of N prompts bears 1 / N of it, in batches of any size."""
    model, charge = problem()
    assert abs(charge) > 0.1
    for num_prompts in (3, 5):
        batch = small_batch(num_prompts, ratings=False)
        found = loss(model, batch, POPULATION) - loss(model, batch, 10**9)
        assert found == pytest.approx(charge / POPULATION, rel=1e-6)


def test_a_tie_counts_half_in_validation():
    """Equal responses: p is 1/2, so half a hit, whatever the label."""
    batch = small_batch(3, ratings=False)
    batch = replace(batch, responses=batch.responses[:1].expand_as(batch.responses))
    module = TrainingModule(small_model(ratings=False), network_config(), 3).eval()
    for label in (0.0, 1.0):
        labelled = replace(batch, preference=torch.full_like(batch.preference, label))
        with torch.no_grad():
            sums = module(**labelled.as_dict())["sums"]
        assert torch.allclose(sums[:, 1], 0.5 * sums[:, 2])

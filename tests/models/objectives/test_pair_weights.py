"""A pair's weight is a power on its likelihood, under every objective."""

from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from helpers import golden
from helpers.problems import repeat, repeat_conditionals, small_batch, small_model, with_guide

from vrm_pyro.models.distributions import Gaussian
from vrm_pyro.models.likelihoods import BradleyTerry, expect_normal
from vrm_pyro.models.objectives import OBJECTIVES, CollapsedObjective, Weights
from vrm_pyro.models.reward import delta_given_weights
from vrm_pyro.prediction.posterior.refine import FixedGuide

EACH = pytest.mark.parametrize("name", sorted(OBJECTIVES))
PAIR_FIELDS = ("pair_first", "pair_second", "preference", "pair_weight")


def pairs(batch, rows):
    """Return the batch with these pairs, in this order."""
    return replace(batch, **{name: getattr(batch, name)[rows] for name in PAIR_FIELDS})


def terms(name, model, batch, conditionals, seed=4):
    torch.manual_seed(seed)
    return OBJECTIVES[name](3).terms(model, model.guide, batch, conditionals, Weights())


@EACH
def test_weight_zero_is_an_absent_pair(name):
    model = small_model()
    batch = small_batch(single_use=OBJECTIVES[name].single_use_responses)
    conditionals = model.conditionals(batch)
    weight = batch.pair_weight.clone()
    weight[1] = 0
    silent = terms(name, model, replace(batch, pair_weight=weight), conditionals)
    rows = torch.arange(batch.num_pairs) != 1
    absent = terms(name, model, pairs(batch, rows), conditionals)
    assert silent.objective.item() == pytest.approx(absent.objective.item(), abs=1e-9)
    assert silent.preference.item() == pytest.approx(absent.preference.item(), abs=1e-9)
    whole = terms(name, model, batch, conditionals)
    assert abs(whole.objective - silent.objective) > 0.01


@pytest.mark.parametrize("name", ["sampled", "integrated", "pairwise"])
def test_weight_two_is_the_pair_twice(name):
    """Exact, as the guide sees the same too; `collapsed` takes a response in one pair only."""
    model, batch = small_model(), small_batch()
    conditionals = model.conditionals(batch)
    weight = batch.pair_weight.clone()
    weight[2] = 2
    heavy = terms(name, model, replace(batch, pair_weight=weight), conditionals)
    rows = torch.tensor([*range(batch.num_pairs), 2])
    twice = terms(name, model, pairs(batch, rows), conditionals)
    assert heavy.objective.item() == pytest.approx(twice.objective.item(), abs=1e-9)
    assert heavy.kl_weights.item() == pytest.approx(twice.kl_weights.item(), abs=1e-9)
    assert heavy.kl_features.item() == pytest.approx(twice.kl_features.item(), abs=1e-9)


@pytest.mark.parametrize("preference", [1.0, 0.7])
@pytest.mark.parametrize("weight", [0.2, 1.0, 3.0])
def test_collapsed_bounds_the_evidence_at_any_weight_and_soft_label(weight, preference):
    """Evidence of p(c | Delta)^weight by Gauss-Jacobi over w and Gauss-Hermite over Delta.

    At .2 a power on the integrated probability would lie above it, by .03 for c = 1.
    """
    copies = 200
    single, conditionals = golden.batch(False, preference), golden.conditionals()
    nodes, log_mass = golden.jacobi_nodes(conditionals.weights.concentration)
    normal = conditionals.features.base_dist
    mean, variance = delta_given_weights(
        nodes, Gaussian(normal.loc[:1], normal.scale[:1]),
        Gaussian(normal.loc[1:], normal.scale[1:]),
        conditionals.reward,
    )  # fmt: skip
    label = torch.tensor(preference).double()
    value = expect_normal(
        lambda delta: (weight * BradleyTerry().log_prob(delta, label)).exp(), mean, variance, 64
    )
    evidence = (log_mass.exp() * value).sum(0).log().item()

    batch = repeat(single, copies)
    batch = replace(batch, pair_weight=torch.full_like(batch.pair_weight, weight))
    many = repeat_conditionals(conditionals, copies)
    alpha = torch.tensor([[1.8, 1.0]]).double().repeat(copies, 1)
    guide = FixedGuide(dist.Dirichlet(alpha), many.features)
    model = with_guide(small_model(num_objectives=2), guide)
    with torch.no_grad():
        found = CollapsedObjective(400).terms(model, guide, batch, many, Weights())
    assert found.objective.item() / copies == pytest.approx(evidence, abs=2e-3)

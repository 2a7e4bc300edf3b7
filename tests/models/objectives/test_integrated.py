from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from helpers.problems import HIDDEN_SIZE, random_conditionals, small_batch, small_model

from vrm_pyro.models.guides import LabelBlindGuide
from vrm_pyro.models.likelihoods.weight_supervision import expected_cross_entropy, weight_targets
from vrm_pyro.models.objectives import IntegratedObjective, SampledObjective, Weights
from vrm_pyro.models.objectives.base import charged, kl_terms
from vrm_pyro.models.objectives.integrated import expected_preference, integrated_terms
from vrm_pyro.models.priors import DirichletPrior, NormalPrior
from vrm_pyro.models.reward import LinearReward
from vrm_pyro.models.vrm import VRM


@pytest.mark.parametrize("mode", ["conditional", "vib"])
def test_it_equals_the_sampled_objective_in_expectation(mode):
    """Shared responses, shared prompts, soft labels, weights, missing ratings and all."""
    model, batch = small_model(mode, power=0.4), small_batch()
    weights = Weights(0.7, 0.3)
    with torch.no_grad():
        conditionals = model.conditionals(batch)
        estimates = []
        for kind in (SampledObjective, IntegratedObjective):
            values = torch.stack(
                [
                    kind(400).terms(model, model.guide, batch, conditionals, weights).objective
                    for _ in range(25)
                ]
            )
            estimates.append((values.mean(), values.var() / 25))
    (sampled, variance), (integrated, other) = estimates
    error = (variance + other).sqrt()
    assert error < 0.1
    assert abs(sampled - integrated) < 4 * error


def test_nodes_may_differ_in_mass_and_by_prompt():
    """(S,) masses for draws, (S, P) for quadrature: equal ones say the same."""
    batch = small_batch(num_objectives=4)
    conditionals = random_conditionals(5, batch.num_responses)
    nodes = conditionals.weights.sample((6,))
    flat = torch.full((6,), 1 / 6, dtype=torch.float64).log()
    one = expected_preference(batch, conditionals, conditionals.features, nodes, flat)
    two = expected_preference(
        batch, conditionals, conditionals.features, nodes, flat.unsqueeze(-1).expand(6, 5)
    )
    assert torch.allclose(one, two, rtol=1e-12)
    # All mass on one node is that node alone.
    single = torch.full((6, 5), -torch.inf, dtype=torch.float64)
    single[2] = 0
    three = expected_preference(batch, conditionals, conditionals.features, nodes, single)
    four = expected_preference(
        batch, conditionals, conditionals.features, nodes[2:3], torch.zeros(1).double()
    )
    assert torch.allclose(three, four, rtol=1e-12)


def test_a_prompt_sees_its_own_nodes():
    batch = small_batch(num_objectives=4)
    conditionals = random_conditionals(5, batch.num_responses)
    nodes, flat = conditionals.weights.sample((1,)), torch.zeros(1).double()
    other = nodes.clone()
    other[:, 3] = nodes[:, 3].flip(-1)
    before = expected_preference(batch, conditionals, conditionals.features, nodes, flat)
    after = expected_preference(batch, conditionals, conditionals.features, other, flat)
    assert torch.equal(before != after, batch.pair_prompt == 3)


def test_pair_weight_is_a_power():
    batch = small_batch(num_objectives=4)
    conditionals = random_conditionals(5, batch.num_responses)
    nodes, flat = conditionals.weights.sample((3,)), torch.full((3,), 1 / 3).double().log()

    def preference(weight):
        data = replace(batch, pair_weight=weight)
        return integrated_terms(
            data, conditionals, conditionals.weights, conditionals.features, nodes, flat, Weights()
        ).preference

    ones = torch.ones_like(batch.pair_weight)
    each = expected_preference(batch, conditionals, conditionals.features, nodes, flat)
    assert torch.allclose(preference(ones), each.sum())
    assert torch.allclose(preference(3 * ones), 3 * each.sum())
    assert preference(0 * ones) == 0


def test_free_bits_are_a_floor_on_the_batch_mean():
    kl = torch.tensor([0.0, 0.1, 0.5], dtype=torch.float64, requires_grad=True)
    assert charged(kl, 0.5, 0.0).item() == pytest.approx(0.3)
    assert charged(kl, 0.5, 0.1).item() == pytest.approx(0.3)  # mean .2: all of it is charged
    below = charged(kl, 0.5, 0.4)
    assert below.item() == pytest.approx(0.5 * 3 * 0.4)
    (gradient,) = torch.autograd.grad(below, kl)
    assert gradient.abs().max() == 0  # free: nothing pulls q towards p


def test_free_bits_enter_the_objective_and_not_the_elbo():
    model, batch = small_model("vib"), small_batch()
    conditionals = model.conditionals(batch)
    kl_w, kl_z = kl_terms(*model.guide.posterior(batch, conditionals), conditionals)
    weights = Weights(free_weights=kl_w.mean().item() + 1, free_features=0.0)
    terms = IntegratedObjective(1).terms(model, model.guide, batch, conditionals, weights)
    charge = 5 * (kl_w.mean() + 1) + kl_z.sum()
    assert (terms.preference + terms.rating - terms.objective).item() == pytest.approx(
        charge.item()
    )
    assert terms.kl_weights.item() == pytest.approx(kl_w.sum().item())
    assert terms.elbo > terms.objective


def test_supervision_of_weights_adds_the_cross_entropy():
    """Mode `paper`: ratings act on w through lambda E_q sum_k t_k log w_k."""
    torch.manual_seed(1)
    model = VRM(
        HIDDEN_SIZE, 3, 2, DirichletPrior(), NormalPrior(), LabelBlindGuide(4), LinearReward(3, 2),
        weight_power=0.7,
    ).double()  # fmt: skip
    model.rating_loc.fill_(3.0)
    model.rating_scale.fill_(2.0)
    batch = small_batch()
    conditionals = model.conditionals(batch)

    def terms(power):
        model.weight_power = power
        torch.manual_seed(4)
        return IntegratedObjective(2).terms(model, model.guide, batch, conditionals, Weights())

    target, present = weight_targets(batch, model.rating_loc, model.rating_scale)
    alpha = model.guide.weights(batch, conditionals).concentration
    extra = 0.7 * expected_cross_entropy(dist.Dirichlet(alpha), target)[present].sum()
    on, off = terms(0.7), terms(0.0)
    assert (on.objective - off.objective).item() == pytest.approx(extra.item(), rel=1e-10)
    assert (on.rating - off.rating).item() == pytest.approx(extra.item(), rel=1e-10)
    assert off.rating == 0


def test_certain_features_need_no_quadrature():
    """q(z) without spread: the pair term is the plain log-likelihood at w and z."""
    batch = small_batch(num_objectives=4)
    conditionals = random_conditionals(5, batch.num_responses)
    loc = conditionals.features.base_dist.loc
    q_features = dist.Normal(loc, torch.full_like(loc, 1e-9)).to_event(1)
    nodes = conditionals.weights.sample((1,))
    value = expected_preference(batch, conditionals, q_features, nodes, torch.zeros(1).double())
    scores = conditionals.reward.scores(loc)
    delta = conditionals.reward.delta(
        nodes[0, batch.pair_prompt], scores[batch.pair_first], scores[batch.pair_second]
    )
    exact = conditionals.likelihood.log_prob(delta, batch.preference)
    assert torch.allclose(value, exact, atol=1e-8)

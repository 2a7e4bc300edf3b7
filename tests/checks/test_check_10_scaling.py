"""Check 10: minibatches are unbiased, latents are charged once, a KL weight is one number."""

import itertools
from dataclasses import replace

import pytest
import torch
from helpers.problems import Arrays, random_conditionals, small_batch, small_model
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.models.objectives import IntegratedObjective, SampledObjective, Weights
from vrm_pyro.models.objectives.integrated import integrated_terms


def quadrature_terms(model, batch):
    """Return the integrated objective of a batch, with w at fixed points of its distribution."""
    conditionals = model.conditionals(batch)
    q_weights, q_features = model.guide.posterior(batch, conditionals)
    # Any nodes that depend on the prompt alone make the value exactly additive over prompts.
    shift = torch.linspace(-1, 1, 7).double().view(7, 1, 1)
    nodes = torch.softmax(q_weights.concentration.log() * (1 + shift), -1)
    log_mass = torch.full((7,), 1 / 7, dtype=torch.float64).log()
    return integrated_terms(batch, conditionals, q_weights, q_features, nodes, log_mass, Weights())


@pytest.mark.parametrize("mode", ["conditional", "vib"])
def test_average_over_all_batches_is_the_full_value(mode):
    model = small_model(mode)
    dataset = PromptDataset(Arrays(small_batch(6)))

    def value(prompts):
        return quadrature_terms(model, dataset.batch(prompts).to(torch.float64)).objective.item()

    full = value([0, 1, 2, 3, 4, 5])
    batches = [value(list(pair)) for pair in itertools.combinations(range(6), 2)]
    assert len(batches) == 15
    assert 6 / 2 * sum(batches) / 15 == pytest.approx(full, abs=1e-9)
    assert max(batches) - min(batches) > 0.1


def test_average_loss_over_all_batches_is_the_full_loss():
    """What an optimiser sees is the objective per prompt, the same for every batch size."""
    model, batch = small_model(), small_batch(6)
    conditionals = model.conditionals(batch)
    torch.manual_seed(3)
    loss = IntegratedObjective(2).differentiable_loss(model, model.guide, batch, conditionals)
    torch.manual_seed(3)
    terms = IntegratedObjective(2).terms(model, model.guide, batch, conditionals, Weights())
    assert loss.item() == pytest.approx(-terms.objective.item() / 6, abs=1e-12)


def test_population_scales_every_local_term():
    """The program takes N: a batch of B stands for N prompts."""
    model, batch = small_model(), small_batch(2)
    conditionals = model.conditionals(batch)
    elbo = TraceMeanField_ELBO(num_particles=1)
    values = []
    for population in (None, 6):
        torch.manual_seed(1)
        values.append(
            elbo.differentiable_loss(
                model.program, model.guide, batch, conditionals, population=population
            ).item()
        )
    assert values[1] == pytest.approx(3 * values[0], rel=1e-12)


def test_shared_weights_and_shared_features_are_charged_once():
    """Further pairs among the same responses add no KL: w is per prompt, z per response."""
    one = small_batch(1)
    base = FeatureBatch(
        **{
            **one.as_dict(),
            "responses": torch.randn(3, 3).double(),
            "response_prompt": torch.zeros(3, dtype=torch.long),
            "ratings": torch.zeros(3, 4).double(),
            "rating_mask": torch.zeros(3, 4, dtype=torch.bool),
        }
    )
    conditionals, other = random_conditionals(1, 3, seed=5), random_conditionals(1, 3, seed=6)
    exact_w = torch.distributions.kl_divergence(other.weights, conditionals.weights)
    exact_z = torch.distributions.kl_divergence(other.features, conditionals.features)

    def kl(first, second):
        ones = torch.ones(len(first)).double()
        batch = replace(
            base,
            pair_first=torch.tensor(first),
            pair_second=torch.tensor(second),
            preference=ones,
            pair_weight=ones,
        )
        nodes = other.weights.sample((5,))
        log_mass = torch.full((5,), 0.2, dtype=torch.float64).log()
        terms = integrated_terms(
            batch, conditionals, other.weights, other.features, nodes, log_mass, Weights()
        )
        charge = terms.preference + terms.rating - terms.objective
        assert terms.kl_weights == pytest.approx(exact_w.sum().item(), abs=1e-12)
        assert terms.kl_features == pytest.approx(exact_z.sum().item(), abs=1e-12)
        return charge.item()

    charges = [kl([0], [1]), kl([0, 1], [1, 2]), kl([0, 0, 1], [1, 2, 2]), kl([0, 0], [1, 1])]
    assert charges == pytest.approx([(exact_w.sum() + exact_z.sum()).item()] * 4, abs=1e-10)


def test_sampled_program_charges_shared_latents_once():
    model = small_model()
    batch = small_batch(1, single_use=True)
    assert batch.num_pairs == 2
    conditionals = model.conditionals(batch)
    terms = SampledObjective(2).terms(model, model.guide, batch, conditionals, Weights())
    kl_w = torch.distributions.kl_divergence(
        model.guide.weights(batch, conditionals), conditionals.weights
    )
    kl_z = torch.distributions.kl_divergence(
        model.guide.features(batch, conditionals), conditionals.features
    )
    assert kl_w.shape == (1,)
    assert kl_z.shape == (4,)
    charge = terms.preference + terms.rating - terms.objective
    assert charge.item() == pytest.approx((kl_w.sum() + kl_z.sum()).item(), abs=1e-10)


@pytest.mark.parametrize("mode", ["conditional", "vib"])
def test_kl_weight_means_the_same_to_both_estimators(mode):
    """With kappa on program and guide, analytic and drawn KL agree (a one-sided one would not)."""
    model, batch = small_model(mode), small_batch(3)
    with torch.no_grad():
        conditionals = model.conditionals(batch)
        estimates = []
        for kind in (TraceMeanField_ELBO, Trace_ELBO):
            elbo = kind(num_particles=400, vectorize_particles=True, max_plate_nesting=1)
            values = torch.tensor(
                [
                    elbo.loss(model.program, model.guide, batch, conditionals, 0.5, 0.5)
                    for _ in range(25)
                ]
            ).double()
            estimates.append((values.mean(), values.var() / 25))
        full = TraceMeanField_ELBO(
            num_particles=400, vectorize_particles=True, max_plate_nesting=1
        ).loss(model.program, model.guide, batch, conditionals)
    (analytic, variance), (drawn, drawn_variance) = estimates
    error = (variance + drawn_variance).sqrt()
    assert abs(analytic - drawn) < 4 * error
    # Strong enough to tell kappa = .5 from 1.
    assert abs(full - analytic) > 10 * error


def test_a_one_sided_kl_weight_cannot_be_asked_for():
    """`Weights` has one number per block, and Pyro hands program and guide the same arguments."""
    model, batch = small_model(), small_batch(3)
    conditionals = model.conditionals(batch)
    for weights in (Weights(kl_weights=0.5), Weights(kl_features=0.5), Weights(0.3, 0.7)):
        for objective in (SampledObjective(2), IntegratedObjective(2)):
            terms = objective.terms(model, model.guide, batch, conditionals, weights)
            charge = terms.preference + terms.rating - terms.objective
            expected = (
                weights.kl_weights * terms.kl_weights + weights.kl_features * terms.kl_features
            )
            assert charge.item() == pytest.approx(expected.item(), abs=1e-10)
            assert terms.elbo.item() == pytest.approx(
                (terms.objective + charge - terms.kl_weights - terms.kl_features).item(), abs=1e-10
            )
    traces = []
    for part in (model.program, model.guide):
        trace = poutine.trace(part).get_trace(batch, conditionals, 0.3, 0.7)
        traces.append({name: trace.nodes[name]["scale"] for name in ("w", "z")})
    assert traces[0] == traces[1] == {"w": 0.3, "z": 0.7}

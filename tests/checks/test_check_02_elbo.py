"""Check 2: every bound stays below the evidence, and meets the golden numbers of spec 2.12."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from helpers import golden
from helpers.problems import repeat, repeat_conditionals, small_model, with_guide
from pyro import poutine

from vrm_pyro import names
from vrm_pyro.models.guides import OutcomeAwareGuide
from vrm_pyro.models.objectives import IntegratedObjective, SampledObjective, Weights
from vrm_pyro.models.objectives.integrated import integrated_terms
from vrm_pyro.prediction.posterior.refine import FixedGuide

RATINGS = pytest.mark.parametrize("ratings", [False, True], ids=["labels", "ratings"])
EVIDENCE = {False: golden.EVIDENCE, True: golden.EVIDENCE_JOINT}


def bound(ratings, q_weights, q_features):
    """Return the integrated ELBO with w by Gauss-Jacobi: a number without noise."""
    nodes, log_mass = golden.jacobi_nodes(q_weights.concentration)
    return integrated_terms(
        golden.batch(ratings),
        golden.conditionals(),
        q_weights,
        q_features,
        nodes,
        log_mass,
        Weights(),
    ).objective


def golden_model(guide):
    return with_guide(small_model(num_objectives=2), guide)


@RATINGS
def test_integrated_bound_at_the_listed_guides(ratings):
    assert bound(ratings, *golden.guide(ratings)).item() == pytest.approx(
        golden.BEST_DIAGONAL[ratings], abs=1e-6
    )
    conditionals = golden.conditionals()
    assert bound(ratings, conditionals.weights, conditionals.features).item() == pytest.approx(
        golden.PRIOR_AS_GUIDE[ratings], abs=1e-6
    )


@RATINGS
@pytest.mark.parametrize("objective", [SampledObjective, IntegratedObjective])
def test_drawn_bounds_agree_with_the_exact_one(ratings, objective):
    model = golden_model(FixedGuide(*golden.guide(ratings)))
    batch, conditionals = golden.batch(ratings), golden.conditionals()
    values = torch.stack(
        [
            objective(500)
            .terms(model, model.guide, batch, conditionals, Weights())
            .objective.detach()
            for _ in range(40)
        ]
    )
    error = values.std() / 40**0.5
    assert error < 0.02
    assert abs(values.mean() - golden.BEST_DIAGONAL[ratings]) < 4 * error


@RATINGS
def test_no_guide_exceeds_the_evidence(ratings):
    generator = torch.Generator().manual_seed(11)
    best_w, best_z = golden.guide(ratings)
    values = []
    for i in range(200):
        # From hardly away from the optimum to far out: a bound fails first where it is tight.
        spread = 0.02 * 2.0 ** (i % 8)

        def noise(*shape, spread=spread):
            return spread * torch.randn(*shape, generator=generator).double()

        alpha = (best_w.concentration * noise(1, 2).exp()).clamp(min=0.1, max=200)
        normal = best_z.base_dist
        q_features = dist.Normal(normal.loc + noise(2, 2), normal.scale * noise(2, 2).exp())
        values.append(bound(ratings, dist.Dirichlet(alpha), q_features.to_event(1)).item())
    assert max(values) < EVIDENCE[ratings] + 1e-9
    assert max(values) < golden.BEST_DIAGONAL[ratings] + 1e-6
    assert max(values) > golden.BEST_DIAGONAL[ratings] - 1e-2


@RATINGS
def test_optimiser_from_the_prior_reaches_the_optimum(ratings):
    conditionals, prior = golden.conditionals(), golden.conditionals().features.base_dist
    nodes, log_mass = golden.jacobi_nodes(conditionals.weights.concentration, 24)
    log_alpha = conditionals.weights.concentration.log().clone().requires_grad_()
    loc, log_scale = (x.clone().requires_grad_() for x in (prior.loc, prior.scale.log()))
    optimiser = torch.optim.LBFGS([log_alpha, loc, log_scale], max_iter=50)

    def loss():
        optimiser.zero_grad()
        q_weights = dist.Dirichlet(log_alpha.exp())
        # The nodes stay where the prior put them; their mass follows q.
        mass = log_mass + (q_weights.log_prob(nodes) - conditionals.weights.log_prob(nodes))
        value = -integrated_terms(
            golden.batch(ratings), conditionals, q_weights,
            dist.Normal(loc, log_scale.exp()).to_event(1), nodes, mass, Weights(),
        ).objective  # fmt: skip
        value.backward()
        return value

    optimiser.step(loss)
    q_weights = dist.Dirichlet(log_alpha.detach().exp())
    q_features = dist.Normal(loc.detach(), log_scale.detach().exp()).to_event(1)
    reached = bound(ratings, q_weights, q_features).item()
    assert reached == pytest.approx(golden.BEST_DIAGONAL[ratings], abs=1e-3)
    assert q_weights.mean[0, 0] == pytest.approx(
        golden.guide(ratings)[0].mean[0, 0].item(), abs=1e-2
    )


@RATINGS
def test_amortized_guide_reaches_the_optimum(ratings):
    """Site networks come close to what a free diagonal q finds on one item.

    Not all the way: a site acts along E[w] alone, the optimum uses all of E[w w'].
    """
    torch.manual_seed(5)
    guide = OutcomeAwareGuide(hidden_size=8).build(1, 2, 2).double()
    batch, conditionals = golden.batch(ratings), golden.conditionals()
    nodes, log_mass = golden.jacobi_nodes(conditionals.weights.concentration, 24)
    optimiser = torch.optim.Adam(guide.parameters(), lr=5e-2)
    for _ in range(120):
        q_weights, q_features = guide.posterior(batch, conditionals)
        mass = log_mass + q_weights.log_prob(nodes) - conditionals.weights.log_prob(nodes)
        terms = integrated_terms(
            batch, conditionals, q_weights, q_features, nodes, mass, Weights()
        )
        optimiser.zero_grad()
        (-terms.objective).backward()
        optimiser.step()
    with torch.no_grad():
        reached = bound(ratings, *guide.posterior(batch, conditionals)).item()
    assert golden.BEST_DIAGONAL[ratings] - 2e-3 < reached < golden.BEST_DIAGONAL[ratings] + 1e-6


@RATINGS
def test_importance_estimate_of_the_evidence(ratings):
    copies, draws = 64, 4000
    batch = repeat(golden.batch(ratings), copies)
    conditionals = repeat_conditionals(golden.conditionals(), copies)
    q_weights, normal = golden.guide(ratings)[0], golden.guide(ratings)[1].base_dist
    guide = FixedGuide(
        dist.Dirichlet(q_weights.concentration.repeat(copies, 1)),
        dist.Normal(normal.loc.repeat(copies, 1), normal.scale.repeat(copies, 1)).to_event(1),
    )
    model = golden_model(guide)
    with torch.no_grad(), pyro.plate("draws", draws, dim=-2):
        guide_trace = poutine.trace(guide).get_trace(batch, conditionals)
        program = poutine.replay(model.program, trace=guide_trace)
        trace = poutine.trace(program).get_trace(batch, conditionals)
    trace.compute_log_prob()
    guide_trace.compute_log_prob()

    def ratio(site):
        value = trace.nodes[site]["log_prob"]
        return value - guide_trace.nodes[site]["log_prob"] if site in guide_trace else value

    log_weight = ratio(names.WEIGHTS) + ratio(names.PREFERENCE)
    by_response = ratio(names.FEATURES) + (ratio(names.RATING) if ratings else 0)
    log_weight = log_weight + by_response.unflatten(-1, (copies, 2)).sum(-1)  # (draws, copies)
    estimates = log_weight.logsumexp(0) - torch.tensor(float(draws)).log()
    assert estimates.mean().item() == pytest.approx(EVIDENCE[ratings], abs=3e-3)

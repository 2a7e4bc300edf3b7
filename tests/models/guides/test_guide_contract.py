"""One contract for every entry of the table of guides."""

from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from helpers.problems import HIDDEN_SIZE, assert_within, small_batch, small_model
from pyro import poutine

from vrm_pyro import names
from vrm_pyro.models.distributions import as_logistic_normal, divergence, is_gaussian
from vrm_pyro.models.guides import GUIDES

NAMES = sorted(GUIDES)
EACH = pytest.mark.parametrize("name", NAMES)


def build(name):
    torch.manual_seed(3)
    return GUIDES[name]().build(HIDDEN_SIZE, 3, 2).double()


def seeded(law):
    """Return a draw under a fixed seed: equal distributions give equal ones."""
    torch.manual_seed(5)
    return law.sample()


def same_law(one, two):
    return torch.equal(seeded(one), seeded(two))


def problem(**settings):
    """Return a batch and the heads of a conditional model on it, which any guide can read."""
    model, batch = small_model(), small_batch(**settings)
    return batch, model.conditionals(batch)


@EACH
def test_shapes(name):
    batch, conditionals = problem()
    q_weights, q_features = build(name).posterior(batch, conditionals)
    assert q_weights.batch_shape == (batch.num_prompts,)
    assert q_weights.event_shape == (3,)
    assert q_features.batch_shape == (batch.num_responses,)
    assert q_features.event_shape == (2,)
    for law in (q_weights, q_features):
        assert law.has_rsample
        assert law.rsample().dtype == torch.float64
    w = q_weights.rsample((20,))
    assert torch.allclose(w.sum(-1), torch.ones_like(w[..., 0]))
    assert GUIDES[name].gaussian == is_gaussian(q_features)


@EACH
def test_both_doors_lead_to_one_posterior(name):
    """Scoring and training must not have two formulas for the same q."""
    batch, conditionals = problem()
    guide = build(name)
    q_weights, q_features = guide.posterior(batch, conditionals)
    assert same_law(guide.weights(batch, conditionals), q_weights)
    assert same_law(guide.features(batch, conditionals), q_features)


@EACH
def test_program_draws_from_that_posterior(name):
    batch, conditionals = problem()
    guide = build(name)
    trace = poutine.trace(guide).get_trace(batch, conditionals, 0.3, 0.6, population=10)
    q_weights, q_features = guide.posterior(batch, conditionals)
    w, z = trace.nodes[names.WEIGHTS], trace.nodes[names.FEATURES]
    assert same_law(w["fn"], q_weights)
    assert same_law(z["fn"], q_features)
    factor = 10 / batch.num_prompts
    assert (w["scale"], z["scale"]) == pytest.approx((0.3 * factor, 0.6 * factor))


@EACH
def test_flag_says_whether_outcomes_are_read(name):
    batch, conditionals = problem()
    guide = build(name)
    flipped = replace(batch, preference=1 - batch.preference)
    rerated = replace(batch, ratings=batch.ratings + 1)
    aware = GUIDES[name].outcome_aware
    for other in (flipped, rerated):
        before, after = guide.posterior(batch, conditionals), guide.posterior(other, conditionals)
        for x, y in zip(before, after, strict=True):
            assert same_law(x, y) != aware


@EACH
def test_gradients_reach_every_parameter(name):
    batch, conditionals = problem()
    guide = build(name)
    q_weights, q_features = guide.posterior(batch, conditionals)
    total = (q_weights.rsample() ** 2).sum() + (q_features.rsample() ** 2).sum()
    total.backward()
    for parameter_name, parameter in guide.named_parameters():
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", [name for name in NAMES if not GUIDES[name].point])
def test_densities_have_mass_one(name):
    """By importance draws from flat and wide distributions; what is drawn has what is scored."""
    batch, conditionals = problem(num_prompts=2)
    q_weights, q_features = build(name).posterior(batch, conditionals)
    z = q_features.sample((4000,))
    loc, scale = z.mean(0), 2 * z.std(0)
    for law, wide in (
        (q_weights, dist.Dirichlet(torch.ones(2, 3).double())),
        (q_features, dist.Normal(loc, scale).to_event(1)),
    ):
        value = wide.sample((40_000,))
        ratio = (law.log_prob(value) - wide.log_prob(value)).exp()
        assert_within(ratio.mean(0), 1.0, ratio.std(0) / 40_000**0.5, 4.5)
        # Mean and spread of the draws are those of the density.
        mean = (ratio.unsqueeze(-1) * value).mean(0)
        error = (ratio.unsqueeze(-1) * value).std(0) / 40_000**0.5
        own = law.sample((20_000,))
        error = (error**2 + own.var(0) / 20_000).sqrt()
        assert_within(own.mean(0), mean, error, 4.5)


@EACH
def test_parameters_survive_saving(name):
    batch, conditionals = problem()
    guide, again = build(name), GUIDES[name]().build(HIDDEN_SIZE, 3, 2).double()
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    again.load_state_dict(guide.state_dict())
    before, after = guide.posterior(batch, conditionals), again.posterior(batch, conditionals)
    for x, y in zip(before, after, strict=True):
        assert same_law(x, y)


@EACH
def test_float32_agrees_with_float64(name):
    found = []
    w, z = torch.full((5, 3), 1 / 3).double(), torch.randn(14, 2).double()
    for dtype in (torch.float64, torch.float32):
        model, batch = small_model(dtype=dtype), small_batch(dtype=torch.float64).to(dtype)
        laws = build(name).to(dtype).posterior(batch, model.conditionals(batch))
        assert all(law.sample().dtype == dtype for law in laws)
        values = (w.to(dtype), z[: batch.num_responses].to(dtype))
        found.append(
            [
                law.mean if GUIDES[name].point else law.log_prob(value)
                for law, value in zip(laws, values, strict=True)
            ]
        )
    for double, single in zip(*found, strict=True):
        assert torch.allclose(double.float(), single, rtol=2e-3, atol=2e-3)


AWARE = pytest.mark.parametrize("name", [name for name in NAMES if GUIDES[name].outcome_aware])
PRIOR = pytest.mark.parametrize("family", ["dirichlet", "logistic_normal"])


def with_prior(conditionals, family):
    """Return heads whose prior of w is of a family."""
    if family == "dirichlet":
        return conditionals
    return replace(conditionals, weights=as_logistic_normal(conditionals.weights))


def log_probs(laws, batch):
    """Return the log densities of both distributions at fixed points."""
    generator = torch.Generator().manual_seed(9)
    w = torch.rand(batch.num_prompts, 3, generator=generator, dtype=torch.float64) + 0.1
    z = torch.randn(batch.num_responses, 2, generator=generator, dtype=torch.float64)
    return [laws[0].log_prob(w / w.sum(-1, keepdim=True)), laws[1].log_prob(z)]


@AWARE
@PRIOR
def test_exchanged_answers_give_the_same_posterior(name, family):
    batch, conditionals = problem()
    guide, conditionals = build(name), with_prior(conditionals, family)
    before, after = (
        log_probs(guide.posterior(b, conditionals), b) for b in (batch, batch.swap_pairs())
    )
    wrong = replace(batch.swap_pairs(), preference=batch.preference)
    other = log_probs(guide.posterior(wrong, conditionals), batch)
    for x, y, z in zip(before, after, other, strict=True):
        assert torch.allclose(x, y, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(x, z, rtol=1e-3)


@AWARE
@PRIOR
def test_without_outcomes_it_is_the_prior(name, family):
    """Exactly so for the Gaussian ones; a flow starts near it and is free to leave."""
    batch, conditionals = problem(ratings=False)
    guide, conditionals = build(name), with_prior(conditionals, family)
    pairs = ("pair_first", "pair_second", "preference", "pair_weight")
    silent = replace(batch, **{key: getattr(batch, key)[:0] for key in pairs})
    unweighted = replace(batch, pair_weight=torch.zeros_like(batch.pair_weight))
    for data in (silent, unweighted):
        q = guide.posterior(data, conditionals)
        found, wanted = (
            log_probs(x, batch) for x in (q, (conditionals.weights, conditionals.features))
        )
        assert torch.allclose(found[0], wanted[0], rtol=1e-8)
        if GUIDES[name].gaussian:
            assert torch.allclose(found[1], wanted[1], rtol=1e-8)
        else:
            assert divergence(q[1], conditionals.features, 2000).max() < 0.1


@EACH
def test_posteriors_of_prompts_do_not_mix(name):
    """Outcomes of one prompt move its own w and z only."""
    batch, conditionals = problem()
    guide = build(name)
    pairs = batch.pair_prompt == 2
    flipped = replace(batch, preference=torch.where(pairs, 1 - batch.preference, batch.preference))
    before, after = guide.posterior(batch, conditionals), guide.posterior(flipped, conditionals)
    others = torch.arange(batch.num_prompts) != 2
    assert torch.equal(seeded(before[0])[others], seeded(after[0])[others])
    rows = batch.response_prompt != 2
    assert torch.equal(seeded(before[1])[rows], seeded(after[1])[rows])
    moved = not same_law(before[0], after[0])
    assert moved == GUIDES[name].outcome_aware


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("LabelBlindGuide", {"hidden_size": -1}),
        ("LabelBlindGuide", {"dropout": 1.0}),
        ("OutcomeAwareGuide", {"hidden_size": 0}),
        ("FullCovarianceGuide", {"hidden_size": 0}),
        ("FlowGuide", {"hidden_size": 0}),
        ("FlowGuide", {"num_transforms": 0}),
        ("LogisticNormalGuide", {"initial_weight_scale": 0.0}),
        ("DeltaGuide", {"hidden_size": -1}),
    ],
)
def test_values_out_of_range_are_named(name, settings):
    with pytest.raises(ValueError, match=f"{name}.*{next(iter(settings))}"):
        GUIDES[name](**settings)

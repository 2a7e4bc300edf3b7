"""One contract for every entry of the table of guides."""

from dataclasses import replace

import pytest
import torch
from problems import HIDDEN_SIZE, small_batch, small_model
from pyro import poutine

from vrm_pyro import sites
from vrm_pyro.guides import GUIDES
from vrm_pyro.laws import is_gaussian

NAMES = sorted(GUIDES)
EACH = pytest.mark.parametrize("name", NAMES)


def build(name):
    torch.manual_seed(3)
    return GUIDES[name]().build(HIDDEN_SIZE, 3, 2).double()


def seeded(law):
    """Return a draw under a fixed seed: equal laws give equal ones."""
    torch.manual_seed(5)
    return law.sample()


def same_law(one, two):
    return torch.equal(seeded(one), seeded(two))


def problem(**settings):
    """Return a batch and the heads of a conditional model on it, which any guide can read."""
    model, batch = small_model(), small_batch(**settings)
    return batch, model.heads(batch)


@EACH
def test_shapes(name):
    batch, heads = problem()
    q_weights, q_features = build(name).posterior(batch, heads)
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
    batch, heads = problem()
    guide = build(name)
    q_weights, q_features = guide.posterior(batch, heads)
    assert same_law(guide.weights(batch, heads), q_weights)
    assert same_law(guide.features(batch, heads), q_features)


@EACH
def test_program_draws_from_that_posterior(name):
    batch, heads = problem()
    guide = build(name)
    trace = poutine.trace(guide).get_trace(batch, heads, 0.3, 0.6, population=10)
    q_weights, q_features = guide.posterior(batch, heads)
    w, z = trace.nodes[sites.WEIGHTS], trace.nodes[sites.FEATURES]
    assert same_law(w["fn"], q_weights)
    assert same_law(z["fn"], q_features)
    factor = 10 / batch.num_prompts
    assert (w["scale"], z["scale"]) == pytest.approx((0.3 * factor, 0.6 * factor))


@EACH
def test_flag_says_whether_outcomes_are_read(name):
    batch, heads = problem()
    guide = build(name)
    flipped = replace(batch, preference=1 - batch.preference)
    rerated = replace(batch, ratings=batch.ratings + 1)
    aware = GUIDES[name].outcome_aware
    for other in (flipped, rerated):
        before, after = guide.posterior(batch, heads), guide.posterior(other, heads)
        for x, y in zip(before, after, strict=True):
            assert same_law(x, y) != aware


@EACH
def test_gradients_reach_every_parameter(name):
    batch, heads = problem()
    guide = build(name)
    q_weights, q_features = guide.posterior(batch, heads)
    total = (q_weights.rsample() ** 2).sum() + (q_features.rsample() ** 2).sum()
    total.backward()
    for parameter_name, parameter in guide.named_parameters():
        assert parameter.grad.abs().max() > 0, parameter_name


@EACH
def test_posteriors_of_prompts_do_not_mix(name):
    """Outcomes of one prompt move its own w and z only."""
    batch, heads = problem()
    guide = build(name)
    pairs = batch.pair_prompt == 2
    flipped = replace(batch, preference=torch.where(pairs, 1 - batch.preference, batch.preference))
    before, after = guide.posterior(batch, heads), guide.posterior(flipped, heads)
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

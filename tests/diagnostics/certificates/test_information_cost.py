import pytest
import torch
from helpers.problems import Arrays, small_batch, small_model
from torch.distributions import kl_divergence

from vrm_pyro.diagnostics.certificates import information_cost


@pytest.mark.parametrize("mode", ["conditional", "vib"])
def test_blocks_are_charged_per_prompt_and_per_response(mode):
    model, batch = small_model(mode), small_batch(7)
    model.rating_loc.fill_(0.3)
    model.rating_scale.fill_(2.0)
    raw = batch.as_dict() | {"ratings": batch.ratings * 2.0 + 0.3}
    cost = information_cost(model, Arrays(type(batch)(**raw)))
    with torch.no_grad():
        standard = model.standardize(batch)
        conditionals = model.conditionals(standard)
        weights, features = model.guide.posterior(standard, conditionals)
        kl_w = kl_divergence(weights, conditionals.weights)
        kl_z = kl_divergence(features, conditionals.features)
    assert cost.weights.value == pytest.approx(kl_w.mean().item(), rel=1e-5)
    assert cost.features.value == pytest.approx(kl_z.mean().item(), rel=1e-5)
    assert cost.total == pytest.approx((kl_w.sum() + kl_z.sum()).item(), rel=1e-5)
    assert (cost.num_prompts, cost.num_responses) == (7, batch.num_responses)
    assert cost.per_prompt == pytest.approx(cost.total / 7)
    assert cost.weights.standard_error > 0


def test_no_outcome_costs_nothing():
    """A guide that sees outcomes is the prior where there is none."""
    model, batch = small_model(), small_batch(4, ratings=False)
    values = batch.as_dict()
    for name in ("pair_first", "pair_second", "preference", "pair_weight"):
        values[name] = values[name][:0]
    cost = information_cost(model, Arrays(type(batch)(**values)))
    assert cost.total == pytest.approx(0, abs=1e-9)

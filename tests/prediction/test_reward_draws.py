"""Joint draws and group rewards against the closed forms of spec 2.9."""

import pytest
import torch
from helpers.problems import assert_within, small_batch, small_model

from vrm_pyro.models.bradley_terry import BradleyTerryModel
from vrm_pyro.models.epistemic.base import head_parameters
from vrm_pyro.models.epistemic.diagonal import DiagonalPosterior
from vrm_pyro.models.priors import ConditionalLogisticNormalPrior, CorrelatedNormalPrior
from vrm_pyro.prediction.group_rewards import group_rewards
from vrm_pyro.prediction.reward_draws import TextStreams, predictive_draws

NUM_DRAWS = 20_000
HEAD_DRAWS = 600


def stream(seed):
    return torch.Generator().manual_seed(seed)


def model_of(kind):
    if kind == "ensemble":
        model = BradleyTerryModel(3, head_size=4, ensemble_size=5).double()
        return model.eval()
    model = small_model(ratings=False)
    if kind == "families":
        torch.manual_seed(8)
        model.weight_prior = ConditionalLogisticNormalPrior(hidden_size=4).build(3, 3).double()
        model.feature_prior = CorrelatedNormalPrior(hidden_size=4).build(3, 2).double()
        with torch.no_grad():
            for parameter in (*model.weight_prior.parameters(), *model.feature_prior.parameters()):
                parameter.add_(0.3 * torch.randn_like(parameter))
    if kind == "head":
        networks = {"weight_prior": model.weight_prior, "feature_prior": model.feature_prior}
        head = DiagonalPosterior(head_parameters(model.reward, networks), 2.0, HEAD_DRAWS).double()
        with torch.no_grad():
            for raw in head.raw_scales:
                raw.add_(1.0)  # a wide distribution: its part of the variance must be seen
        model.parameter_posterior = head
    return model.eval()


@pytest.mark.parametrize("kind", ["dirichlet", "families"])
def test_draws_have_the_closed_form_moments(kind):
    model, batch = model_of(kind), small_batch(num_prompts=3)
    draws = predictive_draws(model, batch, NUM_DRAWS, stream(1))
    with torch.no_grad():
        exact = model.predict_responses(batch).reward
        pairs = model.pair_uncertainty(batch)
    delta = draws[:, batch.pair_first] - draws[:, batch.pair_second]
    for drawn, mean, variance in (
        (draws, exact.mean, exact.variance),
        (delta, pairs.mean, pairs.total),
    ):
        assert_within(drawn.mean(0), mean, drawn.std(0) / NUM_DRAWS**0.5, 4.5)
        squares = (drawn - drawn.mean(0)) ** 2
        # Moments of a logistic-normal w are themselves by nodes, right to 1e-3.
        slack = 0 if kind == "dirichlet" else 2e-3 * variance
        assert_within(squares.mean(0), variance, squares.std(0) / NUM_DRAWS**0.5 + slack, 4.5)


def test_draws_share_the_parameters():
    """Fresh draws of the head against its fixed ones: variances within a few of their errors."""
    model, batch = model_of("head"), small_batch(num_prompts=3)
    draws = predictive_draws(model, batch, 8 * HEAD_DRAWS, stream(2))
    with torch.no_grad():
        pairs = model.pair_uncertainty(batch)
    assert (pairs.epistemic / pairs.total).max() > 0.15
    delta = draws[:, batch.pair_first] - draws[:, batch.pair_second]
    by_head = delta.reshape(8, HEAD_DRAWS, -1).mean(0)  # the head of draw s is s % HEAD_DRAWS
    error = (2**0.5) * by_head.std(0) / HEAD_DRAWS**0.5
    assert_within(delta.mean(0), pairs.mean, error, 4.5)
    spread = (by_head - by_head.mean(0)) ** 2
    expected = pairs.epistemic + pairs.ambiguity / 8
    assert_within(spread.mean(0), expected, (2**0.5) * spread.std(0) / HEAD_DRAWS**0.5, 4.5)


def test_an_ensemble_draws_members():
    model, batch = model_of("ensemble"), small_batch(num_prompts=2)
    draws = predictive_draws(model, batch, 4000, stream(3))
    members = model.member_rewards(batch.responses).detach()
    share = torch.stack([(draws == member).all(1).double().mean() for member in members])
    assert share.sum() == 1
    assert_within(share, torch.full_like(share, 0.2), (0.16 / 4000) ** 0.5 + 0 * share, 4.5)


@pytest.mark.parametrize("kind", ["dirichlet", "families", "head", "ensemble"])
def test_in_a_group_of_two_the_spread_is_half_that_of_the_difference(kind):
    model = model_of(kind)
    batch = small_batch(num_prompts=1, ratings=False)
    assert (batch.num_responses, batch.num_pairs) == (2, 1)
    with torch.no_grad():
        pair = model.pair_uncertainty(batch)
        group = group_rewards(model, batch)
    sign = torch.tensor([0.5, -0.5]).double()
    assert torch.allclose(group.mean(), sign * pair.mean, atol=2e-3)
    assert torch.allclose(group.sd(), 0.5 * pair.total.sqrt().expand(2), rtol=1e-2)


@pytest.mark.parametrize("kind", ["dirichlet", "families"])
def test_group_law_is_that_of_joint_draws(kind):
    model, batch = model_of(kind), small_batch(num_prompts=3)
    counts = 1.0 + torch.arange(batch.num_responses).double() % 3
    group = group_rewards(model, batch, counts)
    draws = predictive_draws(model, batch, NUM_DRAWS, stream(4))
    level = torch.zeros(NUM_DRAWS, batch.num_prompts).double()
    total = torch.zeros(batch.num_prompts).double().index_add(0, batch.response_prompt, counts)
    level.index_add_(1, batch.response_prompt, counts * draws)
    centred = draws - (level / total)[:, batch.response_prompt]
    assert_within(group.mean(), centred.mean(0), centred.std(0) / NUM_DRAWS**0.5, 5)
    assert torch.allclose(group.sd(), centred.std(0), rtol=2e-2)
    for quantile in (0.1, 0.5, 0.9):
        below = (centred <= group.quantile(quantile)).double().mean(0)
        error = (quantile * (1 - quantile) / NUM_DRAWS) ** 0.5
        # 0.01: what 128 fixed draws of w leave of an error in a probability.
        assert (below - quantile).abs().max() < 4.5 * error + 0.01


def test_a_level_that_all_share_has_no_part():
    model, batch = model_of("dirichlet"), small_batch(num_prompts=3)
    before = group_rewards(model, batch)
    with torch.no_grad():
        model.reward.intercept.add_(5.0)
        assert (model.predict_responses(batch).reward.mean > 3).all()
    after = group_rewards(model, batch)
    assert torch.allclose(after.mean(), before.mean(), atol=1e-9)
    assert torch.allclose(after.sd(), before.sd(), atol=1e-9)


def test_alone_a_response_has_no_spread():
    model, batch = model_of("dirichlet"), small_batch(num_prompts=1)
    values = batch.as_dict()
    values["response_prompt"] = torch.tensor([0])
    for name in ("responses", "ratings", "rating_mask"):
        values[name] = values[name][:1]
    group = group_rewards(model, type(batch)(**values))
    assert group.sd().abs().max() < 1e-12
    assert group.quantile(0.1).abs().max() < 1e-12


def test_the_global_random_state_stays():
    model, batch = model_of("families"), small_batch(num_prompts=2)
    before = torch.get_rng_state()
    first = predictive_draws(model, batch, 3, stream(5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    model.train()
    assert torch.equal(predictive_draws(model, batch, 3, stream(5)), first)
    assert model.training


def test_with_streams_of_its_own_a_text_is_drawn_alone():
    model, batch = model_of("dirichlet"), small_batch(num_prompts=2)

    def streams(prompts, responses):
        return TextStreams(
            stream(0), [stream(10 + i) for i in prompts], [stream(90 + i) for i in responses]
        )

    together = predictive_draws(model, batch, 4, streams(range(2), range(batch.num_responses)))
    last = batch.num_responses - 1
    values = batch.as_dict()
    values["prompts"] = batch.prompts[1:]
    for name in ("responses", "ratings", "rating_mask"):
        values[name] = values[name][last:]
    values["response_prompt"] = torch.tensor([0])
    alone = predictive_draws(model, type(batch)(**values), 4, streams([1], [last]))
    assert torch.allclose(alone[:, 0], together[:, last], atol=1e-12)
    with pytest.raises(ValueError, match="1 random streams for 5 rows"):
        predictive_draws(model, batch, 4, streams([0, 1], [0]))

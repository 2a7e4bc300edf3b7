"""Ensembles of VRMs: mixtures of their members, checked against members, copies and draws."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.configs import network_config
from helpers.problems import HIDDEN_SIZE, Arrays, small_batch
from helpers.small_runs import VRM, StopAfter, number_source, run
from torch import nn

from vrm_pyro.diagnostics.checks import log_scores
from vrm_pyro.models.checkpoint import LoadedModel, load_model, save_model
from vrm_pyro.models.distributions import TextStreams
from vrm_pyro.models.ensemble import VRMEnsemble, match_objectives
from vrm_pyro.models.priors import ConditionalDirichletPrior, ConditionalNormalPrior
from vrm_pyro.models.ratings import OrdinalRatings
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.settings.config import check_settings
from vrm_pyro.prediction.contributions import contributions
from vrm_pyro.prediction.explanation import decide
from vrm_pyro.prediction.group_rewards import group_rewards
from vrm_pyro.prediction.posterior import draw_posterior
from vrm_pyro.prediction.predict import predict
from vrm_pyro.prediction.reward_draws import latent_draws, predictive_draws
from vrm_pyro.prediction.scorer import score_source
from vrm_pyro.training.align_members import align_members
from vrm_pyro.training.module import TrainingModule
from vrm_pyro.training.train import PromptDataset

NAMES = ("clarity", "depth", "safety")
BATCH = small_batch(6, dtype=torch.float32)
KINDS = {
    "rated": {},
    "ordinal": {"rating_likelihood": OrdinalRatings(levels=5)},
    "head": {"bayesian_head": True, "head_draws": 4},
    "unrated": {"supervision": "none"},
}


def config_of(kind="rated", size=3, **more):
    settings = {
        "ensemble_size": size,
        "latent_dim": 2,
        "weight_prior": ConditionalDirichletPrior(4, dropout=0.2),
        "feature_prior": ConditionalNormalPrior(4, dropout=0.2),
    }
    config = network_config(**(settings | KINDS[kind] | more))
    check_settings(config)
    return config


def ensemble_of(kind="rated", size=3, seed=0, **more):
    torch.manual_seed(seed)
    config = config_of(kind, size, **more)
    model = build_model(config, HIDDEN_SIZE, 3, config.supervision != "none")
    model.set_rating_unit(3.5, 0.7)
    for member in model.members:
        with torch.no_grad():
            for layer in member.modules():
                if isinstance(layer, nn.Linear):
                    layer.weight.mul_(2)
            if kind in ("rated", "head"):
                member.ratings.offset.normal_()
    return model.eval()


def copies_of(member, size=3):
    return VRMEnsemble([copy.deepcopy(member) for _ in range(size)]).eval()


def close(found, expected, **tolerance):
    tolerance = {"rtol": 1e-4, "atol": 1e-5} | tolerance
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), **tolerance)


def test_one_member_is_a_plain_vrm():
    torch.manual_seed(0)
    one = build_model(config_of(size=1), HIDDEN_SIZE, 3, True)
    torch.manual_seed(0)
    several = build_model(config_of(size=3), HIDDEN_SIZE, 3, True)
    assert not isinstance(one, VRMEnsemble)
    first = several.members[0].state_dict()
    assert all(torch.equal(value, first[name]) for name, value in one.state_dict().items())
    starts = [member.reward.loading for member in several.members]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(starts, 2))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_copies_of_one_member_give_its_numbers(kind):
    alone = ensemble_of(kind).members[0]
    model = copies_of(alone)
    with torch.no_grad():
        close(model.predict_pairs(BATCH), alone.predict_pairs(BATCH))
        pairs = [m.pair_uncertainty(BATCH) for m in (model, alone)]
        reasons = [contributions(m, BATCH) for m in (model, alone)]
        for found, one in zip((*pairs[0], *reasons[0]), (*pairs[1], *reasons[1]), strict=True):
            close(found, one)
        group, one = group_rewards(model, BATCH), group_rewards(alone, BATCH)
        close(group.mean(), one.mean())
        close(group.quantile(0.2), one.quantile(0.2), atol=1e-4)
        source = Arrays(BATCH)
        for name, values in score_source(model, source)._asdict().items():
            if values is not None:
                close(values, getattr(score_source(alone, source), name), atol=1e-4)
        for name, values in predict(model, source)._asdict().items():
            if values is not None:
                close(values, getattr(predict(alone, source), name))
        both = [
            log_scores(LoadedModel(m, config_of(kind), NAMES, True, {}), source, np.zeros(0))
            for m in (model, alone)
        ]
    close(both[0], both[1])
    if kind != "head":
        assert model.pair_uncertainty(BATCH).epistemic.max() < 1e-9


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_moments_are_those_of_the_draws(kind):
    """Mean and variance of Delta against joint draws, within Monte Carlo error and its M - 1."""
    model = ensemble_of(kind, 4)
    num_draws = 40_000
    with torch.no_grad():
        found = model.pair_uncertainty(BATCH)
        stream = torch.Generator().manual_seed(0)
        drawn = predictive_draws(model, BATCH, num_draws, stream).double()
        means = torch.stack([m.pair_uncertainty(BATCH).mean for m in model.members])
    delta = drawn[:, BATCH.pair_first] - drawn[:, BATCH.pair_second]
    # Members are as many as they are: the mixture has the variance of their means with divisor M.
    expected = found.total - means.var(0) + means.var(0, correction=0)
    error = 6 * (expected / num_draws).sqrt()
    slack = 3.0 if kind == "head" else 1.0  # few values of the parameters are drawn
    if kind != "head":
        assert ((delta.mean(0) - found.mean).abs() < error).all()
    ratio = delta.var(0) / expected
    assert ((ratio - 1).abs() < 0.1 * slack).all()
    assert (found.epistemic >= means.var(0) - 1e-6).all()


def test_law_of_total_variance_by_hand():
    model = ensemble_of("head", 3)
    with torch.no_grad():
        each = [member.pair_uncertainty(BATCH) for member in model.members]
        found = model.pair_uncertainty(BATCH)
        responses = model.predict_responses(BATCH).reward
        alone = [member.predict_responses(BATCH).reward for member in model.members]
        p = torch.stack([member.predict_pairs(BATCH) for member in model.members]).mean(0)
    mean = torch.stack([e.mean for e in each])
    close(found.mean, mean.mean(0))
    close(found.ambiguity, torch.stack([e.ambiguity for e in each]).mean(0))
    close(found.epistemic, mean.var(0) + torch.stack([e.epistemic for e in each]).mean(0))
    close(model.predict_pairs(BATCH).detach(), p)
    between = torch.stack([a.mean for a in alone]).var(0)
    close(responses.epistemic, between + torch.stack([a.epistemic for a in alone]).mean(0))
    close(responses.variance, torch.stack([a.variance for a in alone]).mean(0) + between)
    parts = responses.from_weights + responses.from_features + responses.interaction
    close(responses.variance, parts + responses.epistemic)


@pytest.mark.parametrize("kind", ["rated", "ordinal"])
def test_scores_are_mixed_as_expected_ratings(kind):
    """Each member has a rating model of its own: scores are mixed after it, not before."""
    model = ensemble_of(kind, 2)
    with torch.no_grad():
        found = score_source(model, Arrays(BATCH))
        each = [score_source(member, Arrays(BATCH)) for member in model.members]
    mean, sd = (np.stack([getattr(e, n) for e in each]) for n in ("scores", "scores_sd"))
    np.testing.assert_allclose(found.scores, mean.mean(0), rtol=1e-4)
    total = (sd**2).mean(0) + mean.var(0, ddof=1)
    np.testing.assert_allclose(found.scores_sd, total**0.5, rtol=1e-3)
    with torch.no_grad():
        drawn = latent_draws(model, BATCH, 20_000, torch.Generator().manual_seed(1))
        rated = model.drawn_in_rating_unit(drawn.scores)
    np.testing.assert_allclose(rated.mean(0), found.scores, atol=0.05)
    rewards = predictive_draws(model, BATCH, 20_000, torch.Generator().manual_seed(1))
    close(drawn.contributions.sum(-1), rewards, atol=1e-3)


def test_draws_take_members_in_turn():
    model = ensemble_of("unrated", 3)
    for member, scale in zip(model.members, (0.0, 1.0, 2.0), strict=True):
        member.reward.log_scale.fill_(scale)
        nn.init.zeros_(member.reward.loading)
        with torch.no_grad():
            member.reward.intercept.fill_(1.0)  # r = beta, whatever w
    counts = []
    for seed in range(60):
        stream = torch.Generator().manual_seed(seed)
        drawn = predictive_draws(model, BATCH, 1, stream)[0, 0]
        counts.append(round(drawn.log().item()))
    assert set(counts) == {0, 1, 2}
    streams = TextStreams(*(torch.Generator().manual_seed(0) for _ in range(3)))
    drawn = model.draw_rewards(BATCH, 7, streams)[:, 0].log().round().tolist()
    assert sorted(drawn[:3]) == [0.0, 1.0, 2.0]
    assert drawn[3:6] == drawn[:3]


def one_prompt():
    batch = small_batch(3, dtype=torch.float32)
    rows = batch.response_prompt == 2
    empty = batch.pair_first[:0]
    return Arrays(
        replace(
            batch,
            prompts=batch.prompts[[2]],
            responses=batch.responses[rows],
            response_prompt=torch.zeros(int(rows.sum()), dtype=torch.long),
            pair_first=empty,
            pair_second=empty,
            preference=batch.preference[:0],
            pair_weight=batch.pair_weight[:0],
            ratings=batch.ratings[rows],
            rating_mask=batch.rating_mask[rows],
        )
    )


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_decision_adds_up(kind):
    model = ensemble_of(kind, 2)
    found = decide(model, one_prompt(), num_draws=2000)
    for pair in found.pairs:
        assert pair.contributions.mean.sum() == pytest.approx(pair.delta, abs=1e-9)
        assert pair.epistemic > 0
    assert found.weights.mean.sum() == pytest.approx(1, abs=1e-6)
    assert (found.weights_epistemic_sd > 0).all()
    alone = decide(copies_of(model.members[0]), one_prompt(), num_draws=2000)
    single = decide(model.members[0], one_prompt(), num_draws=2000)
    assert alone.order == single.order
    np.testing.assert_allclose(alone.reward, single.reward, rtol=1e-5)
    np.testing.assert_allclose(alone.scores.mean, single.scores.mean, rtol=1e-4)
    for one, other in zip(alone.score_changes, single.score_changes, strict=True):
        assert one.objective == other.objective
        assert (one.now, one.needed) == pytest.approx((other.now, other.needed), rel=1e-3)


def test_objectives_without_names_are_matched_to_those_of_the_first():
    model = copies_of(ensemble_of("unrated").members[0], 2)
    other = model.members[1]
    shift = torch.tensor([1, 2, 0])
    with torch.no_grad():
        for value in (other.reward.loading, other.reward.intercept):
            value.copy_(value[shift])
        layer = other.weight_prior.network.body[-1]
        for value in (layer.weight, layer.bias):
            value[:3] = value[:3][shift]
    source = Arrays(small_batch(30, dtype=torch.float32))
    with torch.no_grad():
        before = contributions(model, BATCH)
        # Fixed nodes of w are not symmetric in the objectives.
        close(model.predict_pairs(BATCH), model.members[0].predict_pairs(BATCH), atol=0.02)
        align_members(model, PromptDataset(source), 0)
        after = contributions(model, BATCH)
    assert model.order.tolist() == [[0, 1, 2], [2, 0, 1]]
    assert before.weights_epistemic.max() > 0.01
    close(after.weights_epistemic, torch.zeros_like(after.weights_epistemic), atol=1e-5)
    alone = contributions(model.members[0], BATCH)
    for found, one in zip(after, alone, strict=True):
        close(found, one, atol=1e-5)
    with torch.no_grad():
        found = model.predict_responses(BATCH)
        close(found.weight_mean, model.members[0].predict_responses(BATCH).weight_mean)
        drawn = latent_draws(model, BATCH, 400, torch.Generator().manual_seed(0))
    close(drawn.weights.mean(0), alone.weights.float(), atol=0.05)


def test_named_objectives_stay_in_their_place():
    model = copies_of(ensemble_of("rated").members[0], 2)
    with torch.no_grad():
        model.members[1].reward.loading.copy_(model.members[1].reward.loading[[1, 0, 2]])
    source = Arrays(small_batch(30, dtype=torch.float32))
    align_members(model, PromptDataset(source), 3)
    assert model.order.tolist() == [[0, 1, 2]] * 2
    align_members(model, PromptDataset(source), 2)  # a single unnamed one has nowhere to go
    assert model.order.tolist() == [[0, 1, 2]] * 2


def test_matching_is_one_to_one():
    first = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    order = torch.tensor([3, 1, 0, 2])
    other = first[:, order] + 0.1
    found = match_objectives(first, other)
    assert torch.equal(other[:, found], first + 0.1)


@pytest.mark.parametrize("kind", ["rated", "unrated"])
def test_the_posterior_pools_members(kind):
    model = ensemble_of(kind, 3).float()
    source = Arrays(BATCH)
    if kind == "unrated":
        source.ratings, source.objectives = source.ratings[:, :0], ()
    found = draw_posterior(model, source, 90, seed=1)
    again = draw_posterior(model, source, 90, seed=1)
    assert np.array_equal(found.groups["posterior"]["r"], again.groups["posterior"]["r"])
    each = [draw_posterior(member, source, 30, seed=1) for member in model.members]
    evidence = np.stack([e.groups["log_likelihood"]["outcomes"] for e in each])
    mean = np.logaddexp.reduce(evidence) - np.log(3)
    np.testing.assert_allclose(found.groups["log_likelihood"]["outcomes"], mean, atol=0.05)
    elbo = np.stack([e.groups["sample_stats"]["elbo"] for e in each]).mean(0)
    np.testing.assert_allclose(found.groups["sample_stats"]["elbo"], elbo, atol=1e-6)
    p = np.stack([e.groups["sample_stats"]["p_first"] for e in each]).mean(0)
    np.testing.assert_allclose(found.groups["sample_stats"]["p_first"], p, atol=1e-6)
    # The first member's draws, in the first place of every three.
    np.testing.assert_allclose(
        found.groups["posterior"]["r"][::3], each[0].groups["posterior"]["r"], rtol=1e-5
    )
    raw = found.rating_unit
    if kind == "rated":
        scores = found.groups["posterior"]["s"][::3]
        own = each[0].groups["posterior"]["s"] + np.array(each[0].rating_unit["rating_offset"])
        np.testing.assert_allclose(scores, own, rtol=1e-4, atol=1e-5)
        assert raw["rating_offset"] == [0.0] * 3


def test_the_loss_is_the_sum_of_the_members():
    model = ensemble_of("rated", 3)
    config = config_of("rated", 3)
    module = TrainingModule(model, config, 6).train()
    torch.manual_seed(1)
    loss = module(**BATCH.as_dict())["loss"]
    torch.manual_seed(1)
    modules = [TrainingModule(member, config, 6).train() for member in model.members]
    alone = [module(**BATCH.as_dict())["loss"] for module in modules]
    close(loss.detach(), torch.stack(alone).sum().detach())
    loss.backward()
    for member in model.members:
        assert member.reward.loading.grad.abs().sum() > 0
    logged = module.take_log()
    assert logged["objective"] == pytest.approx(-loss.item() / 3, rel=0.2)
    module.eval()
    with torch.no_grad():
        sums = module(**BATCH.as_dict())["sums"]
        elbos = [
            TrainingModule(m, config, 6).eval()(**BATCH.as_dict())["sums"][:, 3]
            for m in model.members
        ]
    close(sums[:, 3], torch.stack(elbos).mean(0))


def test_a_file_gives_the_same_ensemble(tmp_path):
    for covariance in ("diagonal", "laplace"):
        config = config_of("head", 2, head_covariance=covariance)
        model = ensemble_of("head", 2, head_covariance=covariance)
        if covariance == "laplace":
            for scale, member in enumerate(model.members, start=1):
                size = member.parameter_posterior.size
                member.parameter_posterior.fit(scale * torch.eye(size, dtype=torch.float64))
        model.order[1] = torch.tensor([1, 2, 0])
        save_model(LoadedModel(model, config, NAMES, True, {}), tmp_path / covariance)
        found = load_model(tmp_path / covariance)
        assert len(found.members) == 2
        assert found.vrm is None
        state = found.model.state_dict()
        assert all(torch.equal(v, state[n]) for n, v in model.state_dict().items())
        with torch.no_grad():
            close(found.model.predict_pairs(BATCH), model.predict_pairs(BATCH), rtol=0, atol=0)


def test_training_and_resuming(tmp_path):
    config = replace(VRM, ensemble_size=2, num_objectives=2)
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 8}
    whole = run(config, tmp_path / "whole", **settings)
    model = whole.loaded.model
    assert isinstance(model, VRMEnsemble)
    scales = [member.prompt_scaler.loc for member in model.members]
    assert torch.equal(*scales)
    assert not torch.equal(*[member.reward.loading for member in model.members])
    source = number_source(9, 1)
    probability = predict(model, source).p_first
    loss = -np.log(np.where(source.preference > 0.5, probability, 1 - probability))
    weight = source.pair_weight
    assert whole.metrics["eval_log_loss"] == pytest.approx((weight * loss).sum() / weight.sum())
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "part", [StopAfter(6)], **settings)
    resumed = run(config, tmp_path / "part", resume_from_checkpoint="true", **settings)
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed.loaded.model.state_dict()[name]), name

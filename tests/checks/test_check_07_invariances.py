"""Check 7: what must not change a reward, a probability or a loss."""

from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from helpers.problems import (
    Arrays,
    delta_moments_of,
    moments_of,
    random_conditionals,
    small_batch,
    small_model,
)
from pyro import poutine

from vrm_pyro import names
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.models.objectives import OBJECTIVES, Weights
from vrm_pyro.models.objectives.integrated import integrated_terms
from vrm_pyro.models.reward import RewardParameters

NAMES = sorted(OBJECTIVES)


def pair_moments(conditionals, batch):
    """Return the moments of Delta of every pair."""
    normal, prompt = conditionals.features.base_dist, batch.pair_prompt
    first, second = batch.pair_first, batch.pair_second
    return delta_moments_of(
        conditionals.weights.concentration[prompt],
        (normal.loc[first], normal.loc[second]),
        (normal.scale[first], normal.scale[second]),
        conditionals.reward,
    )


def loss(name, model, batch, conditionals, seed=5):
    """Return the loss under the draws of a seed."""
    torch.manual_seed(seed)
    return OBJECTIVES[name](2).differentiable_loss(model, model.guide, batch, conditionals).item()


@pytest.mark.parametrize("mode", ["conditional", "vib"])
def test_swapping_a_pair_flips_delta_and_its_probability(mode):
    model, batch = small_model(mode, dtype=torch.float32), small_batch(8, dtype=torch.float32)
    swapped = batch.swap_pairs()
    conditionals = model.conditionals(model.standardize(batch))
    before, after = pair_moments(conditionals, batch), pair_moments(conditionals, swapped)
    assert torch.allclose(after.mean, -before.mean, rtol=0, atol=1e-6)
    assert torch.allclose(after.variance, before.variance, rtol=1e-6)
    total = model.predict_pairs(batch) + model.predict_pairs(swapped)
    assert (total - 1).abs().max() < 1e-6
    assert (model.predict_pairs(batch) - 0.5).abs().max() > 0.05


@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, "conditional") for name in NAMES]
    + [(name, "vib") for name in NAMES if not OBJECTIVES[name].outcome_aware_only],
)
def test_swapping_a_pair_leaves_the_loss(name, mode):
    model = small_model(mode)
    batch = small_batch(6, single_use=OBJECTIVES[name].single_use_responses)
    conditionals = model.conditionals(batch)
    # All of them, then some of them: the order of answers says nothing pair by pair.
    half = batch.swap_pairs()
    keep = torch.arange(batch.num_pairs) % 2 == 0
    half = replace(
        batch,
        pair_first=torch.where(keep, batch.pair_first, half.pair_first),
        pair_second=torch.where(keep, batch.pair_second, half.pair_second),
        preference=torch.where(keep, batch.preference, half.preference),
    )
    base = loss(name, model, batch, conditionals)
    for swapped in (batch.swap_pairs(), half):
        assert loss(name, model, swapped, conditionals) == pytest.approx(base, abs=1e-10)
    # Exchanging the answers but not the label is another data set.
    wrong = replace(batch.swap_pairs(), preference=batch.preference)
    assert abs(loss(name, model, wrong, conditionals) - base) > 1e-3


@pytest.mark.parametrize(("shift", "dtype"), [(0.5, torch.float32), (-50.0, torch.float64)])
def test_a_constant_on_all_scores_of_a_prompt_changes_nothing(shift, dtype):
    """s -> s + c(x) 1: levels are not identified, differences and spreads are (spec 2.8.1)."""
    batch = small_batch(6, num_objectives=4, dtype=dtype)
    conditionals = random_conditionals(6, batch.num_responses, dtype=dtype)
    conditionals = replace(
        conditionals, reward=replace(conditionals.reward, loading=torch.eye(4, dtype=dtype))
    )
    normal = conditionals.features.base_dist
    constant = shift * (1 + torch.arange(6, dtype=dtype))[batch.response_prompt].unsqueeze(-1)
    moved = replace(
        conditionals, features=dist.Normal(normal.loc + constant, normal.scale).to_event(1)
    )

    before, after = pair_moments(conditionals, batch), pair_moments(moved, batch)
    for x, y in zip(before, after, strict=True):
        assert torch.allclose(x, y, rtol=0, atol=1e-5)

    def rewards(conditionals):
        law, concentration = conditionals.features.base_dist, conditionals.weights.concentration
        rows = concentration[batch.response_prompt]
        return moments_of(rows, law.loc, law.scale, conditionals.reward)

    def lower_bounds(conditionals):
        """Return E[r_j - r_ref] - q sd with the first response of the prompt as reference."""
        law, prompt = conditionals.features.base_dist, batch.response_prompt
        start = torch.searchsorted(prompt, prompt)
        moments = delta_moments_of(
            conditionals.weights.concentration[prompt],
            (law.loc, law.loc[start]),
            (law.scale, law.scale[start]),
            conditionals.reward,
        )
        return moments.mean - 1.645 * moments.variance.sqrt()

    assert torch.allclose(
        rewards(conditionals).variance, rewards(moved).variance, rtol=0, atol=1e-5
    )
    assert torch.allclose(lower_bounds(conditionals), lower_bounds(moved), rtol=0, atol=1e-5)
    for prompt in range(6):
        rows = batch.response_prompt == prompt
        for value in (lambda conditionals: rewards(conditionals).mean, lower_bounds):
            assert torch.equal(value(conditionals)[rows].argsort(), value(moved)[rows].argsort())
    assert (rewards(conditionals).mean - rewards(moved).mean).abs().min() > 0.1


def permuted(conditionals, batch, order):
    """Rename the objectives everywhere they appear."""
    ratings = conditionals.ratings
    return (
        replace(
            conditionals,
            weights=dist.Dirichlet(conditionals.weights.concentration[:, order]),
            reward=replace(
                conditionals.reward,
                loading=conditionals.reward.loading[order],
                intercept=conditionals.reward.intercept[order],
            ),
            ratings=replace(ratings, offset=ratings.offset[order], scale=ratings.scale[order]),
        ),
        replace(batch, ratings=batch.ratings[:, order], rating_mask=batch.rating_mask[:, order]),
    )


def test_permuting_objectives_changes_names_only():
    order = torch.tensor([2, 0, 3, 1])
    batch = small_batch(6, num_objectives=4, dtype=torch.float32)
    conditionals = random_conditionals(6, batch.num_responses, dtype=torch.float32)
    other_heads, other_batch = permuted(conditionals, batch, order)
    normal = conditionals.features.base_dist
    before, after = (
        moments_of(
            h.weights.concentration[batch.response_prompt], normal.loc, normal.scale, h.reward
        )
        for h in (conditionals, other_heads)
    )
    for x, y in zip(before, after, strict=True):
        assert torch.allclose(x, y, rtol=1e-5, atol=1e-6)

    model = small_model(dtype=torch.float32)
    q_weights, q_features = model.guide.posterior(batch, conditionals)
    other_weights, other_features = model.guide.posterior(other_batch, other_heads)
    assert torch.allclose(
        q_weights.concentration[:, order], other_weights.concentration, rtol=1e-5
    )
    nodes = q_weights.sample((4,))
    log_mass = torch.full((4,), 0.25).log()
    values = [
        integrated_terms(*arguments, log_mass, Weights()).objective.item()
        for arguments in (
            (batch, conditionals, q_weights, q_features, nodes),
            (other_batch, other_heads, other_weights, other_features, nodes[..., order]),
        )
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert model.predict_responses(batch).reward.mean.abs().max() > 0.1


def test_permuting_the_objectives_of_a_model_leaves_its_rewards():
    order = torch.tensor([2, 0, 1])
    model, batch = small_model(dtype=torch.float32), small_batch(6, dtype=torch.float32)
    before = model.predict_responses(batch)
    with torch.no_grad():
        last = model.weight_prior.network.body[-1]
        for tensor in (last.weight, last.bias):
            tensor[:3] = tensor[:3][order]  # the last output is the total
        for tensor in (model.reward.loading, model.reward.intercept):
            tensor.copy_(tensor[order])
    after = model.predict_responses(batch)
    assert torch.allclose(before.reward.mean, after.reward.mean, atol=1e-6)
    assert torch.allclose(before.reward.variance, after.reward.variance, rtol=1e-5)
    assert torch.allclose(before.weight_mean[:, order], after.weight_mean, atol=1e-6)
    assert torch.allclose(before.score_mean[:, order], after.score_mean, atol=1e-6)


def rotated(conditionals, rotation):
    """Apply z -> R z, A -> A R'; the standard deviations follow |R| (R a signed permutation)."""
    normal = conditionals.features.base_dist
    return replace(
        conditionals,
        features=dist.Normal(normal.loc @ rotation.T, normal.scale @ rotation.abs().T).to_event(1),
        reward=replace(conditionals.reward, loading=conditionals.reward.loading @ rotation.T),
    )


@pytest.mark.parametrize("name", NAMES)
def test_signed_permutation_of_the_features_leaves_the_loss(name):
    model = small_model(num_objectives=4, latent_dim=3)
    batch = small_batch(6, 4, single_use=OBJECTIVES[name].single_use_responses)
    conditionals = random_conditionals(6, batch.num_responses, 4, 3)
    rotation = torch.tensor([[0.0, -1, 0], [0, 0, 1], [1, 0, 0]]).double()
    turned = rotated(conditionals, rotation)
    base = loss(name, model, batch, conditionals)
    if name != "sampled":  # which draws z: its noise is not the same after a turn
        assert loss(name, model, batch, turned) == pytest.approx(base, abs=1e-6)
        return
    q, other = model.guide.features(batch, conditionals), model.guide.features(batch, turned)
    assert torch.allclose(q.base_dist.loc @ rotation.T, other.base_dist.loc, atol=1e-10)
    assert torch.allclose(q.base_dist.scale @ rotation.abs().T, other.base_dist.scale, atol=1e-10)


@pytest.mark.parametrize("name", ["collapsed", "pairwise"])
def test_any_rotation_of_isotropic_features_leaves_the_loss(name):
    """These two carry full covariances inside, so z has no preferred axes (spec 2.8.4)."""
    model = small_model(num_objectives=4, latent_dim=3)
    batch = small_batch(6, 4, single_use=True)
    conditionals = random_conditionals(6, batch.num_responses, 4, 3)
    loc = conditionals.features.base_dist.loc
    conditionals = replace(
        conditionals, features=dist.Normal(loc, torch.full_like(loc, 0.7)).to_event(1)
    )
    rotation = torch.linalg.qr(torch.randn(3, 3).double()).Q
    turned = replace(
        conditionals,
        features=dist.Normal(loc @ rotation.T, torch.full_like(loc, 0.7)).to_event(1),
        reward=replace(conditionals.reward, loading=conditionals.reward.loading @ rotation.T),
    )
    base = loss(name, model, batch, conditionals)
    assert loss(name, model, batch, turned) == pytest.approx(base, abs=1e-6)
    half = replace(
        conditionals, reward=replace(conditionals.reward, loading=turned.reward.loading)
    )
    assert abs(loss(name, model, batch, half) - base) > 1e-3


def test_any_rotation_of_isotropic_posteriors_leaves_the_integrated_loss():
    batch = small_batch(6, 4)
    conditionals, other = (
        random_conditionals(6, batch.num_responses, 4, 3, seed=s) for s in (2, 3)
    )
    rotation = torch.linalg.qr(torch.randn(3, 3).double()).Q
    nodes, log_mass = other.weights.sample((4,)), torch.full((4,), 0.25, dtype=torch.float64).log()

    def value(rotation):
        def turned(law, scale):
            loc = law.base_dist.loc @ rotation.T
            return dist.Normal(loc, torch.full_like(loc, scale)).to_event(1)

        reward = RewardParameters(
            conditionals.reward.loading @ rotation.T,
            conditionals.reward.intercept,
            conditionals.reward.scale,
        )
        model = replace(conditionals, features=turned(conditionals.features, 0.9), reward=reward)
        q_features = turned(other.features, 0.6)
        return integrated_terms(
            batch, model, other.weights, q_features, nodes, log_mass, Weights()
        ).objective.item()

    assert value(rotation) == pytest.approx(value(torch.eye(3).double()), abs=1e-6)


@pytest.mark.parametrize("mode", ["conditional", "vib"])
def test_batch_mates_and_order_do_not_matter(mode):
    model = small_model(mode, dtype=torch.float32)
    dataset = PromptDataset(Arrays(small_batch(32, dtype=torch.float32)))
    together = dataset.batch()
    order = torch.randperm(32).tolist()
    shuffled = dataset.batch(order)

    def by_prompt(batch, values, index):
        return [values[index == p] for p in range(batch.num_prompts)]

    def predict(batch):
        rewards = model.predict_responses(batch).reward
        pairs = model.predict_pairs(batch)
        return [
            torch.cat([mean, variance, probability])
            for mean, variance, probability in zip(
                by_prompt(batch, rewards.mean, batch.response_prompt),
                by_prompt(batch, rewards.variance, batch.response_prompt),
                by_prompt(batch, pairs, batch.pair_prompt),
                strict=True,
            )
        ]

    reference, after = predict(together), predict(shuffled)
    for place, prompt in enumerate(order):
        alone = predict(dataset.batch([prompt]))[0]
        assert torch.allclose(alone, reference[prompt], atol=1e-4)
        assert torch.allclose(after[place], reference[prompt], atol=1e-4)


def test_weights_of_a_prompt_are_shared_bit_for_bit():
    model, batch = small_model(dtype=torch.float32), small_batch(9, dtype=torch.float32)
    weights = model.predict_responses(batch).weight_mean
    for prompt in range(9):
        rows = weights[batch.response_prompt == prompt]
        assert torch.equal(rows, rows[:1].expand_as(rows))
    assert len(weights.unique(dim=0)) == 9

    conditionals = model.conditionals(model.standardize(batch))
    trace = poutine.trace(model.program).get_trace(batch, conditionals)
    w, z = trace.nodes[names.WEIGHTS]["value"], trace.nodes[names.FEATURES]["value"]
    assert w.shape == (9, 3)
    scores = conditionals.reward.scores(z)
    expected = conditionals.reward.delta(
        w[batch.pair_prompt], scores[batch.pair_first], scores[batch.pair_second]
    )
    assert torch.equal(trace.nodes[names.PREFERENCE]["fn"].delta, expected)

"""Log evidence of the outcomes of each prompt, w and z integrated out."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro import names
from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.conjugate import (
    features_given_ratings,
    rating_evidence,
    shared_level_update,
)
from vrm_pyro.models.distributions import as_gaussian, is_gaussian, weight_nodes
from vrm_pyro.models.guides import LabelBlindModule
from vrm_pyro.models.likelihoods import Ranking
from vrm_pyro.models.likelihoods.quadrature import hermite_nodes, root
from vrm_pyro.models.objectives.traces import scored_traces
from vrm_pyro.models.ratings import SharedLevelValues
from vrm_pyro.models.vrm import VRM

NUM_NODES = 48
# Draws are taken in slices of about so many numbers: each draw costs NUM_NODES a pair.
SLICE = 2**20

Distribution = tuple[Tensor, Tensor]


class Evidence(NamedTuple):
    """log p(preferences, ratings | texts) of each prompt.

    Attributes:
        log_prob: Estimate in nats, shape (P,); tempered by lambda and by the pair weights.
        standard_error: Its Monte Carlo error, shape (P,); an upper bound where w alone is drawn,
            as its draws are quasi-random.
    """

    log_prob: Float[Tensor, " prompts"]
    standard_error: Float[Tensor, " prompts"]


def log_evidence(
    model: VRM,
    batch: FeatureBatch,
    conditionals: Conditionals,
    num_draws: int = 512,
    seed: int = 0,
) -> Evidence:
    """Return the log evidence of each prompt under the generative program (spec 2.2, 4.2).

    Gaussian ratings are integrated in closed form. Given w and the ratings, the rewards of a
    prompt are independent Normals: a pair whose responses are in no other pair is integrated by
    Gauss-Hermite, the rest and rankings by importance draws of the rewards, one number a response
    instead of d_z. Half of the draws come from the guide's q, seen as a distribution of w and
    rewards, half from the model given the ratings; weights against that mixture are bounded
    whatever the guide does. With other ratings, 8 times as many draws of w and z come from the
    guide alone.

    Args:
        model: The model; its guide proposes, unless it is label-blind.
        batch: Standardised batch.
        conditionals: Its heads; in float64 for small errors.
        num_draws: Draws of w, and of the rewards with each; a power of 2.
        seed: Fixes the draws; the caller's random state is left alone.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ratings = conditionals.ratings if batch.has_ratings else None
        shared = isinstance(ratings, SharedLevelValues)
        if ratings is not None and not (shared or ratings.conjugate):
            _, _, log_probs = weighted_draws(model, batch, conditionals, 8 * num_draws)
            return _mean_weight(log_probs["log_weight"])
        constant = conditionals.reward.scale.new_zeros(batch.num_prompts)
        if shared:
            update = shared_level_update(batch, conditionals)
            constant = update.log_evidence
            levels = update.levels.sample(torch.Size([2 * (num_draws // 2)]))
            target = update.features(levels, batch)
        else:
            target = features_given_ratings(batch, conditionals)
            if ratings is not None:
                evidence = rating_evidence(batch, conditionals)
                constant = constant.index_add(0, batch.response_prompt, evidence)
        if batch.num_pairs == 0:
            return Evidence(constant, torch.zeros_like(constant))
        log_weight = _log_weights(model, batch, conditionals, num_draws, target)
    found = _mean_weight(log_weight)
    return Evidence(found.log_prob + constant, found.standard_error)


def _mean_weight(log_weight: Tensor) -> Evidence:
    """Return the log of the mean importance weight of each prompt, over draws (S, P)."""
    num_draws = log_weight.shape[0]
    mean = torch.logsumexp(log_weight, 0) - math.log(num_draws)
    # Error of the log of a mean: the relative error of the mean.
    return Evidence(mean, (log_weight - mean).exp().std(0) / math.sqrt(num_draws))


def weighted_draws(
    model: VRM, batch: FeatureBatch, conditionals: Conditionals, num_draws: int
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Draw from the guide and weigh the draws by program and guide, prompt by prompt (spec 4.1).

    Program and guide run as they are, so no second formula of any density is involved.

    Args:
        model: The model.
        batch: Standardised batch in float64.
        conditionals: Its heads.
        num_draws: S.

    Returns:
        w (S, P, K), z (S, R, d_z), and by name: ``log_weight`` (S, P), log p(c, y, w, z)
        - log q(w, z), unscaled; ``lp_outcomes`` (S, P), its part log p(c, y | w, z), the
        sum of ``lp_ratings`` (S, P), tempered by lambda, and ``lp_preferences`` (S, P), each 0
        where there are none; ``lp_w`` (S, P) and ``lp_z`` (S, R), the log prior of the draws.
    """
    guide, trace = scored_traces(model.guide, model.program, batch, conditionals, num_draws)
    lp_w = trace.nodes[names.WEIGHTS]["log_prob"]
    lp_z = trace.nodes[names.FEATURES]["log_prob"]
    parts = {"lp_ratings": torch.zeros_like(lp_w), "lp_preferences": torch.zeros_like(lp_w)}
    rankings = conditionals.joint_rankings(batch)
    items = batch.pair_first[:0] if rankings is None else rankings.items[:, 0]
    prompts = {
        names.RATING: batch.response_prompt,
        names.PREFERENCE: batch.pair_prompt,
        names.RANKING: batch.response_prompt[items],
    }
    for name, site in (
        ("lp_ratings", names.RATING),
        ("lp_preferences", names.PREFERENCE),
        ("lp_preferences", names.RANKING),
    ):
        if site in trace.nodes:
            parts[name] = parts[name].index_add(1, prompts[site], trace.nodes[site]["log_prob"])
    outcomes = parts["lp_ratings"] + parts["lp_preferences"]
    gap = lp_z - guide.nodes[names.FEATURES]["log_prob"]
    log_weight = outcomes + lp_w - guide.nodes[names.WEIGHTS]["log_prob"]
    log_weight = log_weight.index_add(1, batch.response_prompt, gap)
    return (
        guide.nodes[names.WEIGHTS]["value"],
        guide.nodes[names.FEATURES]["value"],
        {"log_weight": log_weight, "lp_outcomes": outcomes, "lp_w": lp_w, "lp_z": lp_z, **parts},
    )


def _log_weights(
    model: VRM,
    batch: FeatureBatch,
    conditionals: Conditionals,
    num_draws: int,
    target: Distribution,
) -> Tensor:
    """Return log p(c, w, r | ratings) / proposal(w, r), shape (S, P).

    ``target`` is p(z | ratings), its mean with a leading dimension of draws where levels of the
    ratings were drawn: the draws of w and r are then given these.
    """
    q_weights, proposal = conditionals.weights, target
    if not isinstance(model.guide, LabelBlindModule):
        q_weights, q_features = model.guide.posterior(batch, conditionals)
        if is_gaussian(q_features):
            gaussian = as_gaussian(q_features)
            proposal = (gaussian.loc, gaussian.covariance)
    half = num_draws // 2
    w = torch.cat(
        [
            weight_nodes(q_weights, half),
            weight_nodes(conditionals.weights, half),
        ]
    )
    from_guide = torch.arange(2 * half) < half
    draws = max(16, SLICE // (NUM_NODES * max(1, batch.num_pairs)))
    parts = [
        _preferences(
            batch,
            conditionals,
            w[rows],
            from_guide[rows],
            *((loc[rows] if loc.dim() == 3 else loc, cov) for loc, cov in (target, proposal)),
        )
        for rows in torch.arange(2 * half).split(draws)
    ]
    log_lik, log_p, log_q = (torch.cat(part) for part in zip(*parts, strict=True))
    log_p = log_p + conditionals.weights.log_prob(w)
    log_q = log_q + q_weights.log_prob(w)
    return log_lik + log_p - (torch.logaddexp(log_p, log_q) - math.log(2))


def _preferences(
    batch: FeatureBatch,
    conditionals: Conditionals,
    weights: Tensor,
    from_guide: Tensor,
    target: Distribution,
    proposal: Distribution,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return log p(c | w, r), log p(r | w) and log q(r | w) of drawn rewards r, each (S, P)."""
    loc, scale = _reward_distribution(batch, conditionals, weights, target)
    zero = weights.new_zeros(weights.shape[:2])
    used = torch.bincount(
        torch.cat([batch.pair_first, batch.pair_second]), minlength=batch.num_responses
    )
    shared = (used[batch.pair_first] > 1) | (used[batch.pair_second] > 1)
    rankings = conditionals.joint_rankings(batch)
    ranked = batch.ranked if rankings is not None else torch.zeros_like(shared)
    shared = shared | ranked
    alone, together = (~shared).nonzero().squeeze(-1), shared.nonzero().squeeze(-1)
    log_lik = zero.index_add(
        1, batch.pair_prompt[alone], _integrated(batch, conditionals, alone, loc, scale)
    )
    if len(together) == 0:
        return log_lik, zero, zero
    q_loc, q_scale = _reward_distribution(batch, conditionals, weights, proposal)
    noise = torch.randn_like(loc)
    drawn = torch.where(from_guide[:, None], q_loc + q_scale * noise, loc + scale * noise)
    rows = torch.unique(torch.cat([batch.pair_first[together], batch.pair_second[together]]))
    if rankings is not None:
        distribution = Ranking(drawn[:, rankings.items], rankings.mask)
        value = rankings.weight * distribution.log_prob(rankings.order)
        log_lik = log_lik.index_add(1, batch.response_prompt[rankings.items[:, 0]], value)
        together = (shared & ~ranked).nonzero().squeeze(-1)
    first, second = batch.pair_first[together], batch.pair_second[together]
    margin = None if batch.pair_margin is None else batch.pair_margin[together]
    value = conditionals.likelihood.given_margin(margin).log_prob(
        drawn[:, first] - drawn[:, second], batch.preference[together]
    )
    log_lik = log_lik.index_add(
        1, batch.pair_prompt[together], batch.pair_weight[together] * value
    )
    prompt = batch.response_prompt[rows]
    log_p = zero.index_add(1, prompt, _log_normal(drawn, loc, scale)[:, rows])
    log_q = zero.index_add(1, prompt, _log_normal(drawn, q_loc, q_scale)[:, rows])
    return log_lik, log_p, log_q


def _reward_distribution(
    batch: FeatureBatch, conditionals: Conditionals, weights: Tensor, features: Distribution
) -> Distribution:
    """Return mean and sd given w of beta w'A z, the part of r that pairs compare, each (S, R)."""
    loc, covariance = features
    direction = (
        conditionals.reward.scale
        * (weights @ conditionals.reward.loading)[:, batch.response_prompt]
    )
    variance = torch.einsum("srd,rde,sre->sr", direction, covariance, direction)
    return (direction * loc).sum(-1), root(variance)


def _integrated(
    batch: FeatureBatch, conditionals: Conditionals, pairs: Tensor, loc: Tensor, scale: Tensor
) -> Tensor:
    """Return log E p(c | Delta)^weight of pairs that share no response, shape (S, pairs)."""
    first, second = batch.pair_first[pairs], batch.pair_second[pairs]
    spread = (scale[:, first] ** 2 + scale[:, second] ** 2).sqrt()
    nodes, masses = hermite_nodes(spread, NUM_NODES)
    delta = (loc[:, first] - loc[:, second]).unsqueeze(-1) + spread.unsqueeze(-1) * nodes
    margin = None if batch.margin_column is None else batch.margin_column[pairs]
    likelihood = conditionals.likelihood.given_margin(margin)
    log_prob = likelihood.log_prob(delta, batch.preference[pairs].unsqueeze(-1))
    weight = batch.pair_weight[pairs].unsqueeze(-1)
    return torch.logsumexp(weight * log_prob + masses.log(), -1)


def _log_normal(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Return the log density up to a constant that cancels in every ratio."""
    return -0.5 * ((value - loc) / scale) ** 2 - scale.log()

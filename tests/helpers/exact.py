"""Exact posterior draws by rejection, and the problems they are made for (spec 5.4, 5.11)."""

from dataclasses import replace

import pyro.distributions as dist
import torch
from helpers.problems import random_conditionals
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.conjugate import features_given_ratings


def rated_pairs(
    num_prompts: int, num_objectives: int = 4, latent_dim: int = 4, seed: int = 0
) -> tuple[FeatureBatch, Conditionals, Tensor, Tensor]:
    """Return prompts with one rated pair each, and the w and z that made their outcomes.

    Concentrations are around 3, as a network prior starts with and learns; outcomes are drawn
    from the program.
    """
    conditionals = random_conditionals(
        num_prompts, 2 * num_prompts, num_objectives, latent_dim, seed=seed
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        concentration = 3 * (0.5 * torch.randn(num_prompts, num_objectives).double()).exp()
        conditionals = replace(conditionals, weights=dist.Dirichlet(concentration))
        w, z = conditionals.weights.sample(), conditionals.features.sample()
        scores = conditionals.reward.scores(z)
        index = torch.arange(num_prompts)
        first, second = 2 * index, 2 * index + 1
        delta = conditionals.reward.delta(w, scores[first], scores[second])
        label = torch.bernoulli(conditionals.likelihood.probability(delta))
        ratings = conditionals.ratings.sample(scores)
    states = torch.zeros(2 * num_prompts, 1, dtype=scores.dtype)
    batch = FeatureBatch(
        prompts=states[:num_prompts],
        responses=states,
        response_prompt=index.repeat_interleave(2),
        pair_first=first,
        pair_second=second,
        preference=label,
        pair_weight=torch.ones(num_prompts, dtype=scores.dtype),
        ratings=ratings,
        rating_mask=torch.ones(scores.shape, dtype=torch.bool),
    )
    return batch, conditionals, w, z


def exact_draws(
    batch: FeatureBatch, conditionals: Conditionals, num_draws: int, seed: int = 3
) -> tuple[Tensor, Tensor]:
    """Return w (S, P, K) and z (S, R, d) from the exact posterior of prompts with one pair.

    w from its prior and z from its conjugate posterior given ratings, kept with the probability
    of the label: p(c | Delta) is at most 1.
    """
    loc, covariance = features_given_ratings(batch, conditionals)
    factor = torch.linalg.cholesky(covariance)
    kept: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(batch.num_prompts)]
    counts = torch.zeros(batch.num_prompts, dtype=torch.long)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        while (counts < num_draws).any():
            size = num_draws
            w = conditionals.weights.sample((size,))
            noise = torch.randn(size, *loc.shape, dtype=loc.dtype)
            z = loc + (factor @ noise.unsqueeze(-1)).squeeze(-1)
            scores = conditionals.reward.scores(z)
            delta = conditionals.reward.delta(
                w, scores[:, batch.pair_first], scores[:, batch.pair_second]
            )
            chance = conditionals.likelihood.log_prob(delta, batch.preference).exp()
            accepted = torch.rand_like(chance) < chance
            for i in range(batch.num_prompts):
                rows = accepted[:, i].nonzero().squeeze(-1)
                kept[i].append((w[rows, i], z[:, 2 * i : 2 * i + 2][rows]))
                counts[i] += len(rows)
    joined = [
        tuple(torch.cat(part)[:num_draws] for part in zip(*blocks, strict=True)) for blocks in kept
    ]
    return (
        torch.stack([w for w, _ in joined], 1),
        torch.stack([z for _, z in joined], 1).flatten(1, 2),
    )

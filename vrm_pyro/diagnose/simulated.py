"""Outcomes that the program makes for given texts, and where q ranks their truth."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.distributions as dist
from numpy.typing import NDArray
from torch import Tensor

from vrm_pyro.batch import FeatureBatch
from vrm_pyro.diagnostics.simulation_check import rank_values
from vrm_pyro.heads import Heads
from vrm_pyro.likelihood import Preference
from vrm_pyro.ratings import GaussianValues

NUM_RANK_DRAWS = 199


def simulated_outcomes(
    batch: FeatureBatch, heads: Heads, seed: int = 0
) -> tuple[FeatureBatch, Tensor, Tensor]:
    """Draw w, z and outcomes given texts; return the batch with these outcomes, w and z.

    Observed where the rows have outcomes, each with power 1. Gaussian ratings to the power
    lambda are ratings with variance tau^2 / lambda for the posterior, and are drawn so.

    Args:
        batch: Standardised batch, without rankings taken as a whole.
        heads: Its heads.
        seed: Fixes the draws; the caller's random state is left alone.

    Raises:
        ValueError: If ratings that are not Gaussian have a power other than 1: no law has the
            tempered likelihood.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        w, z = heads.weights.sample(), heads.features.sample()
        scores = heads.reward.scores(z)
        delta = heads.reward.delta(
            w[batch.pair_prompt], scores[batch.pair_first], scores[batch.pair_second]
        )
        likelihood = heads.likelihood.given_margin(batch.pair_margin)
        label = Preference(delta, likelihood).sample()
        weight = (batch.pair_weight > 0).to(batch.pair_weight.dtype)
        made = replace(batch, preference=label.to(batch.preference), pair_weight=weight)
        ratings = heads.ratings
        if ratings is not None and batch.has_ratings:
            if ratings.power != 1:
                if not isinstance(ratings, GaussianValues):
                    raise ValueError("simulated_outcomes: tempered ratings that are not Gaussian.")
                ratings = replace(ratings, scale=ratings.scale / ratings.power**0.5)
            made = replace(made, ratings=ratings.sample(scores).to(batch.ratings))
    return made, w, z


def truth_ranks(
    batch: FeatureBatch,
    heads: Heads,
    truth: tuple[Tensor, Tensor],
    laws: tuple[dist.Distribution, dist.Distribution],
    objectives: Sequence[str],
    num_draws: int = NUM_RANK_DRAWS,
    seed: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Return where true weights, scores and Delta rank among draws of q, by quantity.

    One value a prompt: each w_k; each s_k of one response, the first of the prompt's first pair;
    Delta of that pair. So values of one quantity are independent.

    Args:
        batch: The batch that q saw.
        heads: Its heads.
        truth: w (P, K) and z (R, d_z).
        laws: q(w) and q(z).
        objectives: Names, K of them.
        num_draws: Draws of q.
        seed: Fixes them.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = torch.Size([num_draws])
        w, z = (law.sample(shape) for law in laws)
        pair, response = _one_of_each(batch)
        true_w, true_z = truth
        true = _quantities(batch, heads, true_w, true_z, pair, response)
        drawn = _quantities(batch, heads, w, z, pair, response)
    names = [
        *(f"weight {name}" for name in objectives),
        *(f"score {name}" for name in objectives),
    ]
    rng = np.random.default_rng(seed)
    found = {}
    for name, exact, draws in zip((*names, "delta"), true, drawn, strict=True):
        if len(exact):
            found[name] = rank_values(exact.numpy(), draws.numpy(), rng)
    return found


def _one_of_each(batch: FeatureBatch) -> tuple[Tensor, Tensor]:
    """Return the first pair of each prompt that has one, and one response of each prompt."""
    pair = _first_rows(batch.pair_prompt[batch.pair_weight > 0], batch.num_prompts)
    counted = (batch.pair_weight > 0).nonzero().squeeze(-1)
    response = _first_rows(batch.response_prompt, batch.num_prompts)
    pair = counted[pair[pair >= 0]]
    response = response.scatter(0, batch.pair_prompt[pair], batch.pair_first[pair])
    return pair, response[response >= 0]


def _first_rows(group: Tensor, num_groups: int) -> Tensor:
    """Return the first row of each group, -1 for none, shape (groups,)."""
    rows = torch.arange(len(group))
    none = torch.full((num_groups,), len(group))
    first = none.scatter_reduce(0, group, rows, "amin")
    return torch.where(first < len(group), first, -1)


def _quantities(
    batch: FeatureBatch, heads: Heads, w: Tensor, z: Tensor, pair: Tensor, response: Tensor
) -> list[Tensor]:
    scores = heads.reward.scores(z)
    first, second = (scores[..., side[pair], :] for side in (batch.pair_first, batch.pair_second))
    delta = heads.reward.delta(w[..., batch.pair_prompt[pair], :], first, second)
    return [*w.unbind(-1), *scores[..., response, :].unbind(-1), delta]

"""Outcomes simulated from a model, and ranks of the truth among posterior draws (spec 4.5)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.distributions as dist
from numpy.typing import NDArray
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.diagnostics.checks.applies import joint_rankings, no_outcome_posterior
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.likelihoods import Preference
from vrm_pyro.models.ratings import GaussianRatings, GaussianValues
from vrm_pyro.models.vrm import VRM

NUM_RANK_DRAWS = 199


def simulated_outcomes(
    batch: FeatureBatch, conditionals: Conditionals, seed: int = 0
) -> tuple[FeatureBatch, Tensor, Tensor]:
    """Draw w, z and outcomes given texts; return the batch with these outcomes, w and z.

    Observed where the rows have outcomes, each with power 1. Gaussian ratings to the power
    lambda are ratings with variance tau^2 / lambda for the posterior, and are drawn so.

    Args:
        batch: Standardised batch, without rankings taken as a whole.
        conditionals: Its heads.
        seed: Fixes the draws; the caller's random state is left alone.

    Raises:
        ValueError: If ratings that are not Gaussian have a power other than 1: no
            distribution has the tempered likelihood.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        w, z = conditionals.weights.sample(), conditionals.features.sample()
        scores = conditionals.reward.scores(z)
        delta = conditionals.reward.delta(
            w[batch.pair_prompt], scores[batch.pair_first], scores[batch.pair_second]
        )
        likelihood = conditionals.likelihood.given_margin(batch.pair_margin)
        label = Preference(delta, likelihood).sample()
        weight = (batch.pair_weight > 0).to(batch.pair_weight.dtype)
        made = replace(batch, preference=label.to(batch.preference), pair_weight=weight)
        ratings = conditionals.ratings
        if ratings is not None and batch.has_ratings:
            if ratings.power != 1:
                if not isinstance(ratings, GaussianValues):
                    raise ValueError("simulated_outcomes: tempered ratings that are not Gaussian.")
                ratings = replace(ratings, scale=ratings.scale / ratings.power**0.5)
            drawn = ratings.sample_rows(scores, batch)
            made = replace(made, ratings=drawn.to(batch.ratings))
    return made, w, z


def truth_ranks(
    batch: FeatureBatch,
    conditionals: Conditionals,
    truth: tuple[Tensor, Tensor],
    distributions: tuple[dist.Distribution, dist.Distribution],
    objectives: Sequence[str],
    num_draws: int = NUM_RANK_DRAWS,
    seed: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Return where true weights, scores and Delta rank among draws of q, by quantity.

    One value a prompt: each w_k, unless it is the only one, which is 1; each s_k of one response,
    the first of the prompt's first pair; Delta of that pair. Values of one
    quantity are independent.

    Args:
        batch: The batch that q saw.
        conditionals: Its heads.
        truth: w (P, K) and z (R, d_z).
        distributions: q(w) and q(z).
        objectives: Names, K of them.
        num_draws: Draws of q.
        seed: Fixes them.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = torch.Size([num_draws])
        w, z = (distribution.sample(shape) for distribution in distributions)
        pair, response = _one_of_each(batch)
        true_w, true_z = truth
        true = _quantities(batch, conditionals, true_w, true_z, pair, response)
        drawn = _quantities(batch, conditionals, w, z, pair, response)
    names = [
        *(f"weight {name}" for name in objectives),
        *(f"score {name}" for name in objectives),
    ]
    rng = np.random.default_rng(seed)
    found = {}
    for name, exact, draws in zip((*names, "delta"), true, drawn, strict=True):
        if len(exact) and not (len(objectives) == 1 and name.startswith("weight ")):
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
    batch: FeatureBatch,
    conditionals: Conditionals,
    w: Tensor,
    z: Tensor,
    pair: Tensor,
    response: Tensor,
) -> list[Tensor]:
    scores = conditionals.reward.scores(z)
    first, second = (scores[..., side[pair], :] for side in (batch.pair_first, batch.pair_second))
    delta = conditionals.reward.delta(w[..., batch.pair_prompt[pair], :], first, second)
    return [*w.unbind(-1), *scores[..., response, :].unbind(-1), delta]


def simulated_ranks(inputs: CheckInputs) -> dict[str, np.ndarray] | str:
    """Return ranks of simulated truth by quantity, or why there are none."""
    if inputs.ranks is None:
        inputs.ranks = _simulated_ranks(inputs)
    return inputs.ranks


def _simulated_ranks(inputs: CheckInputs) -> dict[str, np.ndarray] | str:
    """Return ranks of simulated truth by quantity, or why there are none."""
    if reason := no_outcome_posterior(inputs):
        return reason
    if reason := joint_rankings(inputs):
        return reason
    ratings = inputs.loaded.config.rating_likelihood
    power = inputs.loaded.config.rating_power
    if inputs.loaded.rated and power != 1 and not isinstance(ratings, GaussianRatings):
        return (
            f"model.rating_power is {power:g}: no ratings could be simulated from a tempered "
            f"{type(ratings).__name__}."
        )

    def measure(
        model: VRM, batch: FeatureBatch, conditionals: Conditionals
    ) -> dict[str, np.ndarray]:
        made, w, z = simulated_outcomes(batch, conditionals, inputs.seed)
        distributions = model.guide.posterior(made, conditionals)
        return truth_ranks(
            made, conditionals, (w, z), distributions, inputs.loaded.objectives, seed=inputs.seed
        )

    each = inputs.with_batch(measure)
    return {name: np.concatenate([ranks[name] for ranks in each]) for name in each[0]}


def rank_values(
    truth: NDArray[Any], draws: NDArray[Any], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the rank of each truth among its draws, in [0, 1], shape of ``truth``.

    (draws below + u (1 + draws equal)) / (S + 1) with uniform u: uniform if truth and draws come
    from one distribution. Ties, as of ratings in steps, are broken at random.

    >>> draws = np.arange(99.0)[:, None]
    >>> rank = rank_values(np.array([49.5]), draws, np.random.default_rng(0)).item()
    >>> 0.5 <= rank <= 0.51
    True

    Args:
        truth: Shape (...).
        draws: Shape (draws, ...).
        rng: Random state.
    """
    low, high = rank_limits(truth, draws)
    return np.asarray(low + rng.random(low.shape) * (high - low))


def rank_limits(
    truth: NDArray[Any], draws: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return between which two ranks each truth lies, each shape of ``truth``, in [0, 1].

    >>> low, high = rank_limits(np.array([1.0]), np.array([[0.0], [1.0], [1.0]]))
    >>> low.item(), high.item()  # one draw below, two equal, of three and the truth
    (0.25, 1.0)

    Args:
        truth: Shape (...).
        draws: Shape (draws, ...).
    """
    below, equal = (draws < truth).sum(0), (draws == truth).sum(0)
    return below / (len(draws) + 1), (below + 1 + equal) / (len(draws) + 1)

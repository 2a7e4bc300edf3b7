"""Simulated comparisons on known scores, without texts, for recovery checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.simulation import program
from vrm_pyro.data.simulation.program import Floats, Ints
from vrm_pyro.errors import InputError


@dataclass(frozen=True)
class ScoreSimulation:
    """Simulated comparisons whose states are the true scores; a feature source for training.

    The state of a prompt is the one-hot vector of its cluster, the state of a response is its
    true scores. A linear head can then be exact, so that only the inference is tested.

    Args:
        prompts: Cluster indicators, one column per cluster, shape (P, clusters).
        responses: True scores s, shape (R, K).
        response_prompt: Prompt of every response, shape (R,).
        pair_first: First response of every pair, shape (N,).
        pair_second: Second response of every pair, shape (N,).
        preference: 1.0 where the first was preferred, else 0.0, shape (N,).
        pair_weight: Ones, shape (N,).
        ratings: Ratings of the scores, NaN where missing, shape (R, K).
        objectives: Names of the K objectives.
        weights: True weights of every cluster, shape (clusters, K).
        cluster: Cluster of every prompt, shape (P,).
        delta: True reward of the first response minus that of the second, shape (N,).
        beta: Scale of the reward.
        tau: Standard deviation of a rating given its score.
    """

    prompts: Floats
    responses: Floats
    response_prompt: Ints
    pair_first: Ints
    pair_second: Ints
    preference: Floats
    pair_weight: Floats
    ratings: Floats
    objectives: tuple[str, ...]
    weights: Floats
    cluster: Ints
    delta: Floats
    beta: float
    tau: float


def simulate_scores(
    num_pairs: int = 4000,
    weights: Sequence[float] | Sequence[Sequence[float]] | Floats = (0.5, 0.3, 0.15, 0.05),
    beta: float = 3.0,
    tau: float = 0.1,
    seed: int = 0,
    *,
    pairs_per_prompt: int = 1,
    correlation: float = 0.0,
    rating_missing: float = 0.0,
    label_noise: float = 0.0,
    labels: Literal["bradley_terry", "mean_rating"] = "bradley_terry",
) -> ScoreSimulation:
    """Draw comparisons on scores s ~ N(0, 1): spec check 5.6 by default.

    Differences of scores are then N(0, 2) per objective, the setting of the reference standard
    errors in spec 2.8.

    >>> found = simulate_scores(num_pairs=100, weights=(0.7, 0.3), seed=1)
    >>> found.responses.shape, found.preference.shape, found.weights.tolist()
    ((200, 2), (100,), [[0.7, 0.3]])

    Args:
        num_pairs: Number of pairs N, each with two new responses.
        weights: Objective weights, one vector for all prompts (K,) or one per cluster
            (clusters, K). Prompts belong to the clusters in equal shares.
        beta: Scale of the reward, r = beta * w's.
        tau: Standard deviation of a rating given its score.
        seed: Non-negative seed.
        pairs_per_prompt: Pairs per prompt.
        correlation: Correlation of any two objectives' scores within a response.
        rating_missing: Probability that a single rating is missing.
        label_noise: Probability eps that a Bradley-Terry label is flipped.
        labels: ``bradley_terry`` draws from sigmoid(delta); ``mean_rating`` prefers the response
            with the higher mean rating, so that labels do not depend on ``weights`` (spec 1.1).

    Raises:
        InputError: If weights are not on the simplex or a number is out of range.
    """
    table = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    if table.ndim != 2 or (table < 0).any() or not np.allclose(table.sum(axis=1), 1):
        raise InputError(
            f"simulate: weights {weights!r} are not on the simplex; every vector needs "
            "non-negative numbers that sum to 1."
        )
    program.check_number("the number of pairs", num_pairs, 1)
    program.check_number("pairs_per_prompt", pairs_per_prompt, 1)
    program.check_number("beta", beta, 0, open_low=True)
    program.check_number("tau", tau, 0)
    program.check_number("seed", seed, 0)
    program.check_number("correlation", correlation, 0, 1)
    program.check_number("rating_missing", rating_missing, 0, 1)
    program.check_number("label_noise", label_noise, 0, 0.5)
    num_clusters, num_objectives = table.shape
    rng = np.random.default_rng(seed)
    owner, first, second = program.draw_pairs(rng, num_pairs, pairs_per_prompt, 0)
    num_prompts = int(owner[-1]) + 1
    cluster = rng.permutation(np.arange(num_prompts) % num_clusters)
    shared = rng.standard_normal((len(owner), 1))
    own = rng.standard_normal((len(owner), num_objectives))
    scores = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    reward = beta * (table[cluster[owner]] * scores).sum(axis=1)
    delta = reward[first] - reward[second]
    ratings = program.draw_ratings(rng, scores, 0.0, tau, rating_missing)
    if labels == "mean_rating":
        mean = _row_means(ratings)
        label = mean[first] > mean[second]
    else:
        label = rng.random(num_pairs) < program.preference_probability(delta, label_noise)
    return ScoreSimulation(
        prompts=np.eye(num_clusters)[cluster],
        responses=scores,
        response_prompt=owner,
        pair_first=first,
        pair_second=second,
        preference=label.astype(np.float64),
        pair_weight=np.ones(num_pairs),
        ratings=ratings,
        objectives=tuple(f"objective_{k}" for k in range(num_objectives)),
        weights=table,
        cluster=cluster,
        delta=delta,
        beta=beta,
        tau=tau,
    )


def _row_means(ratings: Floats) -> NDArray[np.float64]:
    """Return the mean of each response's observed ratings, 0 without any."""
    observed = ~np.isnan(ratings)
    total = np.where(observed, ratings, 0.0).sum(axis=1)
    return total / np.maximum(observed.sum(axis=1), 1)

"""Draws from the variational reward model (spec 2.1) in numpy."""

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Each objective loads on its own feature and slightly on the others: ratings of real responses
# correlate, which makes weights harder to identify.
LOADING: Floats = np.array(
    [
        [0.95, 0.20, 0.15, 0.05],  # helpfulness
        [0.10, 1.00, 0.05, 0.10],  # correctness
        [0.15, 0.05, 1.00, 0.05],  # clarity
        [0.05, 0.15, 0.05, 0.95],  # safety
    ]
)
INTERCEPT: Floats = np.array([0.20, 0.00, -0.10, 0.10])


def draw_weights(
    rng: np.random.Generator, kind: Ints, means: Floats, concentration: float
) -> Floats:
    """Draw w of every prompt from a Dirichlet with mean ``means[kind]``.

    Args:
        rng: Source of randomness.
        kind: Kind of every prompt, shape (P,).
        means: Mean weights of every kind, shape (kinds, K).
        concentration: Total concentration alpha_0; ``inf`` fixes w at the mean of its kind.

    Returns:
        Points of the simplex, shape (P, K).
    """
    if np.isinf(concentration):
        return means[kind]
    gamma = rng.standard_gamma(concentration * means[kind])
    return gamma / gamma.sum(axis=1, keepdims=True)


def draw_pairs(
    rng: np.random.Generator, num_pairs: int, pairs_per_prompt: int, shared_responses: int
) -> tuple[Ints, Ints, Ints]:
    """Assign responses and pairs to prompts; the last prompt takes the remaining pairs.

    Args:
        rng: Source of randomness; picks the pairs when responses are shared.
        num_pairs: Number of pairs N.
        pairs_per_prompt: Pairs of every prompt but the last.
        shared_responses: Responses per prompt from which its pairs are drawn; 0 gives each pair
            two new responses.

    Returns:
        Prompt of every response (R,), first and second response of every pair (N,). Every
        response is in a pair.
    """
    num_prompts = -(-num_pairs // pairs_per_prompt)
    if shared_responses == 0:
        first = 2 * np.arange(num_pairs)
        return np.repeat(np.arange(num_pairs) // pairs_per_prompt, 2), first, first + 1
    left, right = np.triu_indices(shared_responses, k=1)
    order = rng.random((num_prompts, len(left))).argsort(axis=1)[:, :pairs_per_prompt]
    flip = rng.random(order.shape) < 0.5
    base = shared_responses * np.arange(num_prompts)[:, None]
    first = (base + np.where(flip, right[order], left[order])).ravel()[:num_pairs]
    second = (base + np.where(flip, left[order], right[order])).ravel()[:num_pairs]
    # A response in no pair would be a text without a row: remove it and renumber.
    used, renumbered = np.unique(np.concatenate([first, second]), return_inverse=True)
    return used // shared_responses, renumbered[:num_pairs], renumbered[num_pairs:]


def draw_ratings(
    rng: np.random.Generator, scores: Floats, offset: Floats | float, tau: float, missing: float
) -> Floats:
    """Draw Gaussian ratings on scores, y = s + o + tau * noise (spec 2.5 i).

    Args:
        rng: Source of randomness.
        scores: True scores, shape (R, K).
        offset: Offset o of every objective, or one for all.
        tau: Residual standard deviation in rating units.
        missing: Probability that a rating is missing, completely at random.

    Returns:
        Ratings, NaN where missing, shape (R, K).
    """
    ratings = scores + offset + tau * rng.standard_normal(scores.shape)
    ratings[rng.random(scores.shape) < missing] = np.nan
    return ratings


def preference_probability(delta: Floats, label_noise: float = 0.0) -> Floats:
    """Return p(first preferred) = eps + (1 - 2 eps) sigmoid(delta), shape as ``delta`` (spec 2.4).

    >>> preference_probability(np.array([0.0, 50.0]), label_noise=0.1).tolist()
    [0.5, 0.9]
    """
    sigmoid = np.exp(-np.logaddexp(0.0, -delta))
    return label_noise + (1 - 2 * label_noise) * sigmoid


def check_number(
    name: str, value: float, low: float, high: float = float("inf"), open_low: bool = False
) -> None:
    """Raise :class:`InputError` unless ``low <= value <= high`` (``low < value`` if open)."""
    if not (low < value if open_low else low <= value) or not value <= high:
        bound = f"{'above' if open_low else 'at least'} {low:g}"
        bound += "" if np.isinf(high) else f" and at most {high:g}"
        raise InputError(f"simulate: {name} is {value:g}; it must be {bound}.")

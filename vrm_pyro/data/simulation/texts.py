"""Simulate preference data as texts, drawn from the variational reward model."""

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from vrm_pyro.data.simulation import program
from vrm_pyro.data.simulation.kinds import KINDS, OBJECTIVES
from vrm_pyro.data.simulation.phrases import FEATURE_NAMES
from vrm_pyro.data.simulation.simulation import KIND_DIM, SPLITS, Simulation
from vrm_pyro.data.simulation.wording import feature_levels, write_prompts, write_responses
from vrm_pyro.errors import InputError
from vrm_pyro.names import (
    DELTA,
    FEATURE_DIM,
    FEATURES,
    OBJECTIVE_DIM,
    PAIR_DIM,
    PROMPT_DIM,
    RATING,
    RESPONSE_DIM,
    REWARD,
    SCORES,
    WEIGHTS,
)

HELD_OUT_FRACTION = 0.1
LARGEST = 1e12
RATING_OFFSET = 3.0  # ratings look like a scale around 3, not like standardised scores
RATING_DECIMALS = 4


def simulate_texts(
    num_pairs: int,
    seed: int = 0,
    *,
    pairs_per_prompt: int = 4,
    shared_responses: int = 0,
    concentration: float = 20.0,
    beta: float = 4.0,
    rating_noise: float = 0.5,
    rating_missing: float = 0.2,
    label_noise: float = 0.0,
) -> Simulation:
    """Draw prompts, responses, labels and ratings from the model of spec 2.1, as texts.

    Every prompt has a kind, and w ~ Dirichlet(concentration * mean of its kind). Every response
    has z ~ N(0, I), scores s = A z + b and reward r = beta * w's. Labels are Bernoulli draws of
    sigmoid(delta), ratings are s + o + tau * noise. The text of a prompt shows its kind, not its
    w. The text of a response shows only z rounded to five levels, so the exact score cannot be
    read from it.

    Prompts are split 80 / 10 / 10.

    Args:
        num_pairs: Number of comparisons in all splits together.
        seed: Non-negative seed; equal arguments give equal texts in any process.
        pairs_per_prompt: Comparisons per prompt; the last prompt takes the remaining ones.
        shared_responses: Responses per prompt from which its comparisons are drawn without
            repeats. 0 gives every comparison two new responses.
        concentration: Total concentration of w around the mean of its kind; ``inf`` makes w the
            same for all prompts of a kind.
        beta: Scale of the reward. The default gives delta a standard deviation of about 4.
        rating_noise: Standard deviation tau of a rating given its score.
        rating_missing: Probability that a single rating is missing; 1 gives rows without ratings.
        label_noise: Probability eps that a label is flipped, at most 0.5.

    Raises:
        InputError: If a number is out of range, or the prompts are too few for three splits.
    """
    program.check_number("the number of pairs", num_pairs, 1)
    program.check_number("seed", seed, 0)
    program.check_number("pairs_per_prompt", pairs_per_prompt, 1)
    program.check_number("concentration", concentration, 0, open_low=True)
    program.check_number("beta", beta, 0, LARGEST, open_low=True)
    program.check_number("rating_noise", rating_noise, 0, LARGEST)
    program.check_number("rating_missing", rating_missing, 0, 1)
    program.check_number("label_noise", label_noise, 0, 0.5)
    _check_layout(num_pairs, pairs_per_prompt, shared_responses)

    # One stream per quantity: changing the wording or rating noise keeps w, z and the labels.
    latent_rng, label_rng, rating_rng, text_rng, split_rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5)
    )
    means = np.array([kind.weights for kind in KINDS])
    owner, first, second = program.draw_pairs(
        latent_rng, num_pairs, pairs_per_prompt, shared_responses
    )
    num_prompts = int(owner[-1]) + 1
    kind = latent_rng.permutation(np.arange(num_prompts) % len(KINDS))
    w = program.draw_weights(latent_rng, kind, means, concentration)
    z = latent_rng.standard_normal((len(owner), len(FEATURE_NAMES)))
    s = z @ program.LOADING.T + program.INTERCEPT
    r = beta * (w[owner] * s).sum(axis=1)
    delta = r[first] - r[second]
    p_first = program.preference_probability(delta, label_noise)
    label = label_rng.random(num_pairs) < p_first
    rating = program.draw_ratings(rating_rng, s, RATING_OFFSET, rating_noise, rating_missing)

    prompts = write_prompts(text_rng, kind)
    topic = np.array([prompt.topic for prompt in prompts])
    level = feature_levels(z)
    responses = write_responses(text_rng, kind[owner], topic[owner], level)
    texts = tuple(prompt.text for prompt in prompts)

    names = _ids(seed, owner, first)
    by_prompt = {
        WEIGHTS: ((PROMPT_DIM, OBJECTIVE_DIM), w),
        "prompt_kind": (PROMPT_DIM, np.array([k.name for k in KINDS])[kind]),
        "split": (PROMPT_DIM, _split_names(split_rng, num_prompts)),
        "prompt_text": (PROMPT_DIM, np.array(texts)),
    }
    by_response = {
        FEATURES: ((RESPONSE_DIM, FEATURE_DIM), z),
        "level": ((RESPONSE_DIM, FEATURE_DIM), level),
        SCORES: ((RESPONSE_DIM, OBJECTIVE_DIM), s),
        RATING: ((RESPONSE_DIM, OBJECTIVE_DIM), rating.round(RATING_DECIMALS)),
        REWARD: (RESPONSE_DIM, r),
        "response_prompt": (RESPONSE_DIM, names.prompt[owner]),
    }
    by_pair = {
        "pair_prompt": (PAIR_DIM, names.prompt[owner[first]]),
        "first_response": (PAIR_DIM, names.response[first]),
        "second_response": (PAIR_DIM, names.response[second]),
        "chosen_response": (PAIR_DIM, names.response[np.where(label, first, second)]),
        "rejected_response": (PAIR_DIM, names.response[np.where(label, second, first)]),
        DELTA: (PAIR_DIM, delta),
        "p_first": (PAIR_DIM, p_first),
        "first_preferred": (PAIR_DIM, label),
        "p_chosen": (PAIR_DIM, np.where(label, p_first, 1 - p_first)),
    }
    parameters = {
        "kind_weights": ((KIND_DIM, OBJECTIVE_DIM), means),
        "loading": ((OBJECTIVE_DIM, FEATURE_DIM), program.LOADING),
        "intercept": (OBJECTIVE_DIM, program.INTERCEPT),
        "rating_offset": (OBJECTIVE_DIM, np.full(len(OBJECTIVES), RATING_OFFSET)),
        "beta": float(beta),
        "concentration": float(concentration),
        "rating_scale": float(rating_noise),
        "label_noise": float(label_noise),
    }
    coords: dict[str, Any] = {
        PROMPT_DIM: names.prompt,
        RESPONSE_DIM: names.response,
        PAIR_DIM: names.pair,
        OBJECTIVE_DIM: list(OBJECTIVES),
        FEATURE_DIM: list(FEATURE_NAMES),
        KIND_DIM: [k.name for k in KINDS],
    }
    attributes = {"source": "simulated", "seed": seed}
    truth = xr.Dataset(by_prompt | by_response | by_pair | parameters, coords, attributes)
    return Simulation(texts, tuple(responses), truth)


def _check_layout(num_pairs: int, pairs_per_prompt: int, shared_responses: int) -> None:
    num_prompts = -(-num_pairs // pairs_per_prompt)
    if num_prompts < len(SPLITS):
        raise InputError(
            f"simulate: {num_pairs} pairs at {pairs_per_prompt} per prompt make {num_prompts} "
            "prompt(s), but train, validation and test need one each; ask for at least "
            f"{2 * pairs_per_prompt + 1} pairs, or for fewer pairs per prompt."
        )
    program.check_number("shared_responses", shared_responses, 0)
    if shared_responses and shared_responses * (shared_responses - 1) // 2 < pairs_per_prompt:
        raise InputError(
            f"simulate: {shared_responses} shared response(s) do not make {pairs_per_prompt} "
            "different pairs; share more responses, or ask for fewer pairs per prompt."
        )


class _Ids(NamedTuple):
    prompt: NDArray[Any]
    response: NDArray[Any]
    pair: NDArray[Any]


def _ids(seed: int, owner: program.Ints, first: program.Ints) -> _Ids:
    """Make ids of prompts, responses and pairs; the seed makes them differ between data sets."""
    prompt = np.array([f"s{seed}-p{i:05d}" for i in range(int(owner[-1]) + 1)])
    return _Ids(prompt, _numbered(prompt, owner, "r"), _numbered(prompt, owner[first], "c"))


def _numbered(prompt: NDArray[Any], owner: program.Ints, letter: str) -> NDArray[Any]:
    """Number the members of each prompt from 0; ``owner`` is sorted."""
    number = np.arange(len(owner)) - np.searchsorted(owner, owner)
    return np.array([f"{prompt[i]}-{letter}{n}" for i, n in zip(owner, number, strict=True)])


def _split_names(rng: np.random.Generator, num_prompts: int) -> NDArray[Any]:
    """Split prompts into train, validation and test, 80 / 10 / 10 with at least one each."""
    held_out = max(1, round(HELD_OUT_FRACTION * num_prompts))
    train, validation, test = SPLITS
    names = [train] * (num_prompts - 2 * held_out) + [validation] * held_out + [test] * held_out
    return rng.permutation(np.array(names))

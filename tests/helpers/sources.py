"""Feature sources made of numbers, for tests that need no text."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit

from vrm_pyro.data.batch import FeatureBatch


@dataclass(frozen=True)
class NumberSource:
    """A ``FeatureSource`` of plain arrays."""

    prompts: Any
    responses: Any
    response_prompt: Any
    pair_first: Any
    pair_second: Any
    preference: Any
    pair_weight: Any
    ratings: Any
    objectives: tuple[str, ...] = ()
    pair_margin: Any = None
    pair_ranking: Any = None


def source_of(batch: FeatureBatch, objectives: tuple[str, ...] | None = None) -> NumberSource:
    """Return the rows of a batch; masked ratings become NaN."""
    values = {name: value.numpy().copy() for name, value in batch.as_dict().items()}
    mask = values.pop("rating_mask")
    values["ratings"] = np.where(mask, values["ratings"], np.nan)
    if objectives is None:
        objectives = tuple("abcdefgh"[: mask.shape[1]])
    return NumberSource(**values, objectives=objectives)


def without_pairs(source: NumberSource) -> NumberSource:
    """Return the same responses with no comparison between them."""
    names = ("pair_first", "pair_second", "preference", "pair_weight")
    return replace(source, **{name: getattr(source, name)[:0] for name in names})


def directed_source(num_prompts=60, noise=0.5, ratings=0, seed=0, hidden=24):
    """Two pairs a prompt; what is preferred lies along one direction of the states."""
    rng = np.random.default_rng(seed)
    direction = np.random.default_rng(99).normal(size=hidden)
    responses = rng.normal(size=(4 * num_prompts, hidden)).astype(np.float32)
    first, second = 2 * np.arange(2 * num_prompts), 2 * np.arange(2 * num_prompts) + 1
    gap = (responses[first] - responses[second]) @ direction / noise
    label = (rng.random(len(first)) < expit(gap)).astype(float)
    # As rows come: the preferred one first.
    first, second = np.where(label > 0, (first, second), (second, first))
    return NumberSource(
        rng.normal(size=(num_prompts, hidden)).astype(np.float32),
        responses,
        np.repeat(np.arange(num_prompts), 4),
        first,
        second,
        np.ones(len(first)),
        np.ones(len(first)),
        rng.normal(3, 1, (len(responses), ratings)),
        tuple("abcdef"[:ratings]),
    )

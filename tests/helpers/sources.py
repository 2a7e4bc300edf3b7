"""Feature sources made of numbers, for tests that need no text."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

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

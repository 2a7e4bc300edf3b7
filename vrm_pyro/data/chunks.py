"""Iterate over a feature source in chunks of prompts."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.dataset import PromptDataset

# A pair costs 64 draws of w times 32 quadrature nodes: 2,048 of them take 16 MB a tensor.
MAX_PAIRS = 2048
MAX_RESPONSES = 8192


@dataclass(frozen=True)
class Chunk:
    """Some prompts with all their responses and pairs.

    Row i of each part of ``batch`` is the prompt, response or pair of the source with index
    ``prompts[i]``, ``responses[i]`` or ``pairs[i]``.
    """

    prompts: NDArray[np.int64]
    responses: NDArray[np.int64]
    pairs: NDArray[np.int64]
    batch: FeatureBatch


def chunks(
    dataset: PromptDataset, max_pairs: int = MAX_PAIRS, max_responses: int = MAX_RESPONSES
) -> Iterator[Chunk]:
    """Yield the prompts of a data set in order, in chunks that bound the memory of a pass.

    Args:
        dataset: Prompts over a feature source.
        max_pairs: Most pairs in a chunk; a prompt with more gets a separate chunk.
        max_responses: Most responses in a chunk, likewise.
    """
    for prompts in _spans(dataset, max_pairs, max_responses):
        responses, pairs = dataset.rows_of(prompts)
        yield Chunk(prompts, responses, pairs, dataset.batch(prompts))


def _spans(
    dataset: PromptDataset, max_pairs: int, max_responses: int
) -> Iterator[NDArray[np.int64]]:
    items = np.asarray(dataset.items)
    num_prompts = dataset.source.prompts.shape[0]
    response_prompt = np.asarray(dataset.source.response_prompt)
    pair_prompt = response_prompt[np.asarray(dataset.source.pair_first)]
    responses = np.bincount(response_prompt, minlength=num_prompts)[items]
    pairs = np.bincount(pair_prompt, minlength=num_prompts)[items]
    start, num_responses, num_pairs = 0, 0, 0
    for i in range(len(items)):
        full = num_responses + responses[i] > max_responses or num_pairs + pairs[i] > max_pairs
        if full and i > start:
            yield items[start:i]
            start, num_responses, num_pairs = i, 0, 0
        num_responses += responses[i]
        num_pairs += pairs[i]
    if start < len(items):
        yield items[start:]

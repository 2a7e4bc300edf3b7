"""One pass over a feature source: chunks of prompts, through a model held still."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vrm_pyro.batch import FeatureBatch, PromptDataset

AnyModule = TypeVar("AnyModule", bound=nn.Module)

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
        max_pairs: Most pairs in a chunk; a prompt that has more is a chunk of its own.
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


@contextmanager
def double_copy(model: AnyModule) -> Iterator[AnyModule]:
    """Give a float64 copy on the CPU, without gradients: the user's model stays as it is.

    Densities and KLs of sharp laws need the digits.
    """
    copied = copy.deepcopy(model).to("cpu", torch.float64)
    with evaluation_mode(copied):
        yield copied


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[torch.device]:
    """Switch off dropout and gradients for a block, then restore the mode of every module.

    Callers such as RL trainers never call ``eval()`` on a reward model; predictions must not
    depend on that.

    Yields:
        The device of the model.
    """
    modes = [(module, module.training) for module in model.modules()]
    device = next((t.device for t in model.state_dict().values()), torch.device("cpu"))
    model.eval()
    try:
        with torch.no_grad():
            yield device
    finally:
        for module, mode in modes:
            module.training = mode

"""Scores by which rules choose among the candidates of a prompt."""

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.prediction.group_rewards import GroupRewards, group_rewards

Floats = NDArray[np.float64]

NUM_DRAWS: Final = 2048
"""Joint draws behind P(best), at least; its standard error is at most .011."""

_MAX_RESPONSES: Final = 1024
_HALVINGS: Final = 20  # of the quantile: right to 1e-6 of the spread


class GroupScores(NamedTuple):
    """What a model says of each candidate relative to the others of its prompt, (R,) each.

    Attributes:
        mean: Mean reward above that of the group.
        sd: Standard deviation of that difference.
        quantile: Its quantile.
        p_best: Probability of the highest reward; equal ones are ordered by their mean.
        p_above: Probability that the reward is above the mean of the group.
        minimum: Smallest mean reward above the group's over the members of an ensemble, or over
            draws of uncertain parameters; None for a single value of them.
    """

    mean: Floats
    sd: Floats
    quantile: Floats
    p_best: Floats
    p_above: Floats
    minimum: Floats | None


def group_scores(
    model: RewardModel, source: FeatureSource, level: float = 0.1, seed: int = 0
) -> GroupScores:
    """Return the scores of all candidates.

    Args:
        model: The model.
        source: States; the responses to one prompt are a group.
        level: Level of the quantile, in (0, 1).
        seed: Seed of the draws behind P(best).
    """
    found = np.zeros((6, source.responses.shape[0]))
    generator = torch.Generator().manual_seed(seed)
    several = True
    with evaluation_mode(model) as device:
        for chunk in chunks(PromptDataset(source), max_responses=_MAX_RESPONSES):
            batch = chunk.batch.to(device)
            group = group_rewards(model, batch)
            several = len(group.loc) > 1
            owner = batch.response_prompt.tolist()
            ends = np.searchsorted(owner, np.arange(len(chunk.prompts) + 1))
            values = (
                group.mean(),
                group.sd(),
                group.quantile(level, _HALVINGS),
                _p_best(group, ends, generator),
                _p_above(group),
                group.loc.mean(1).amin(0),
            )
            found[:, chunk.responses] = torch.stack(values).double().cpu().numpy()
    mean, sd, quantile, p_best, p_above, minimum = found
    return GroupScores(
        mean, sd, quantile, _untied(p_best, mean), p_above, minimum if several else None
    )


def _p_best(
    group: GroupRewards, ends: NDArray[np.int64], generator: torch.Generator
) -> torch.Tensor:
    """Return the probability of the highest reward in each group."""
    loc, scale = group.loc.flatten(0, 1).cpu(), group.variance.flatten(0, 1).sqrt().cpu()
    repeats = max(1, -(-NUM_DRAWS // len(loc)))
    found = torch.empty(loc.shape[1])
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        noise = torch.randn(repeats, len(loc), end - start, generator=generator)
        draws = loc[:, start:end] + scale[:, start:end] * noise
        best = draws == draws.amax(-1, keepdim=True)  # equal responses without spread share it
        found[start:end] = (best / best.sum(-1, keepdim=True)).mean((0, 1))
    return found.to(group.loc.device)


def _p_above(group: GroupRewards) -> torch.Tensor:
    scale = group.variance.sqrt().clamp(min=torch.finfo(group.loc.dtype).tiny)
    return torch.special.ndtr(group.loc / scale).mean((0, 1))


def _untied(first: Floats, second: Floats) -> Floats:
    """Return places in the order by the first score, then by the second."""
    places = np.empty(len(first))
    places[np.lexsort((second, first))] = np.arange(len(first))
    return places

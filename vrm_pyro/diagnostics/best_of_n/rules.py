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
from vrm_pyro.prediction.group_rewards import centred_rewards

Floats = NDArray[np.float64]

NUM_DRAWS: Final = 2048
"""Joint draws behind P(best) and the quantile, at least; a probability is right to .011."""

_MAX_RESPONSES: Final = 1024
# Fixed draws of w, shared out among the values of the parameters.
_NODES, _LEAST_NODES, _MOST_NODES = 512, 16, 128


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
    values = max(1, model.num_parameter_draws)
    nodes = min(_MOST_NODES, max(_LEAST_NODES, _NODES // values))
    several = True
    with evaluation_mode(model) as device:
        for chunk in chunks(PromptDataset(source), max_responses=_MAX_RESPONSES):
            batch = chunk.batch.to(device)
            loc, variance = model.reward_mixture(batch, nodes)
            group = centred_rewards(loc, variance, batch)
            several = len(loc) > 1
            owner = batch.response_prompt.tolist()
            ends = np.searchsorted(owner, np.arange(len(chunk.prompts) + 1)).tolist()
            mixture = loc.flatten(0, 1).cpu(), variance.flatten(0, 1).sqrt().cpu()
            drawn = [
                _of_draws(mixture[0][:, a:b], mixture[1][:, a:b], level, generator)
                for a, b in zip(ends[:-1], ends[1:], strict=True)
            ]
            columns = (
                group.mean().cpu(),
                group.sd().cpu(),
                *torch.cat(drawn, -1),
                group.loc.mean(1).amin(0).cpu(),
            )
            found[:, chunk.responses] = torch.stack(columns).double().numpy()
    mean, sd, quantile, p_best, p_above, minimum = found
    return GroupScores(
        mean, sd, quantile, _untied(p_best, mean), p_above, minimum if several else None
    )


def _of_draws(
    loc: torch.Tensor, scale: torch.Tensor, level: float, generator: torch.Generator
) -> torch.Tensor:
    """Return quantile, P(best) and P(above the mean) of the responses to one prompt, (3, N)."""
    repeats = max(1, -(-NUM_DRAWS // len(loc)))
    noise = torch.randn(repeats, *loc.shape, generator=generator)
    draws = (loc + scale * noise).flatten(0, 1)
    best = draws == draws.amax(-1, keepdim=True)  # equal responses without spread share it
    above = draws - draws.mean(-1, keepdim=True)
    place = max(1, round(level * len(draws)))
    return torch.stack(
        [
            above.kthvalue(place, 0).values,
            (best / best.sum(-1, keepdim=True)).mean(0),
            (above > 0).float().mean(0),
        ]
    )


def _untied(first: Floats, second: Floats) -> Floats:
    """Return places in the order by the first score, then by the second."""
    places = np.empty(len(first))
    places[np.lexsort((second, first))] = np.arange(len(first))
    return places

"""Scores by which rules choose among the candidates of a prompt."""

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.group_mixture import group_means, shares
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.prediction.group_rewards import group_rewards

Floats = NDArray[np.float64]

NUM_DRAWS: Final = 2048
"""Joint draws behind P(best), at least; it is right to .011."""

_MAX_RESPONSES: Final = 4096
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
            group = group_rewards(model, batch)
            loc, variance = model.reward_mixture(batch, nodes)
            several = len(loc) > 1
            members = group_means(loc.mean(1), batch, shares(batch))
            columns = (
                group.mean(),
                group.sd(),
                group.quantile(level),
                _p_best(loc.cpu(), variance.sqrt().cpu(), batch.response_prompt.cpu(), generator),
                group.above(),
                (loc.mean(1) - members).amin(0),
            )
            found[:, chunk.responses] = torch.stack([c.cpu().double() for c in columns]).numpy()
    mean, sd, quantile, p_best, p_above, minimum = found
    return GroupScores(
        mean, sd, quantile, _untied(p_best, mean), p_above, minimum if several else None
    )


def _p_best(
    loc: torch.Tensor, scale: torch.Tensor, owner: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return the share of joint draws in which each response has its group's highest reward, (R,).

    Args:
        loc: Means, (M, S, R), responses to a prompt side by side.
        scale: Standard deviations.
        owner: Prompt of each response.
        generator: Stream of the draws.
    """
    sizes = owner.bincount()
    wide = int(sizes.max())
    place = torch.arange(len(owner)) - (sizes.cumsum(0) - sizes)[owner] + wide * owner
    count = torch.zeros(len(sizes) * wide)
    repeats = max(1, -(-NUM_DRAWS // (loc.shape[0] * loc.shape[1])))
    # Where some groups are smaller than others, theirs is filled up with rewards of -infinity.
    filled = None if wide * len(sizes) == len(owner) else loc.new_full((len(count),), -torch.inf)
    for same_loc, same_scale in zip(loc, scale, strict=True):
        for _ in range(repeats):
            draws = torch.randn(same_loc.shape, generator=generator, dtype=loc.dtype)
            draws = draws.mul_(same_scale).add_(same_loc)
            if filled is not None:
                draws = filled.repeat(len(draws), 1).index_copy_(1, place, draws)
            draws = draws.view(len(draws), len(sizes), wide)
            best = (draws == draws.amax(-1, keepdim=True)).to(torch.float32)
            best /= best.sum(-1, keepdim=True)  # equal responses without spread share it
            count += best.sum(0).flatten()
    return count[place] / (repeats * loc.shape[0] * loc.shape[1])


def _untied(first: Floats, second: Floats) -> Floats:
    """Return places in the order by the first score, then by the second."""
    places = np.empty(len(first))
    places[np.lexsort((second, first))] = np.arange(len(first))
    return places

"""The distribution of a response's reward relative to the other responses to its prompt."""

import math
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.group_mixture import shares
from vrm_pyro.models.reward_model import RewardModel

# Fixed draws of w. A scrambled Sobol net of this size gives standard deviations right to 1%.
NUM_NODES: Final = 128
_HALVINGS: Final = 50
_STEPS: Final = 8
_PRECISE: Final = 1e-10


@dataclass(frozen=True)
class GroupRewards:
    """Distribution of r minus the group's mean reward, as an equal mixture of Normals.

    The mixture runs over values of the parameters and fixed draws of w that all responses to a
    prompt share; given both, z is integrated exactly. So is the map V of a shrinkage prior, which
    then has a single value.

    >>> group = GroupRewards(torch.tensor([[[-1.0, 1.0]]]), torch.ones(1, 1, 2))
    >>> group.mean(), group.sd(), group.quantile(0.5)
    (tensor([-1.,  1.]), tensor([1., 1.]), tensor([-1.,  1.]))

    Args:
        loc: Means, for each of M values of the parameters, S draws of w and R responses.
        variance: Variances, likewise.
    """

    loc: Float[Tensor, "values draws responses"]
    variance: Float[Tensor, "values draws responses"]

    def mean(self) -> Float[Tensor, " responses"]:
        """Return the expected reward above the group's, shape (R,)."""
        return self.loc.mean((0, 1))

    def sd(self) -> Float[Tensor, " responses"]:
        """Return its standard deviation, shape (R,), epistemic part included.

        For a group of two it is half of the sd of the reward difference.
        """
        given_parameters = self.variance.mean(1) + self.loc.var(1, correction=0)
        total = given_parameters.mean(0)
        if len(self.loc) > 1:
            total = total + self.loc.mean(1).var(0)
        return total.sqrt()

    def above(self) -> Float[Tensor, " responses"]:
        """Return the probability that the reward is above the group's mean, shape (R,)."""
        scale = self.variance.sqrt()
        chance = torch.special.ndtr(self.loc / scale.clamp(min=_tiny(scale)))
        return torch.where(scale > 0, chance, (self.loc > 0).to(chance)).mean((0, 1))

    def quantile(self, level: float) -> Float[Tensor, " responses"]:
        """Return its quantile at a level in (0, 1), shape (R,), by Newton or bisection."""
        loc = self.loc.flatten(0, 1).double()
        scale = self.variance.flatten(0, 1).double().sqrt()
        normal = torch.special.ndtri(torch.tensor(level, dtype=torch.float64))
        # A mixture's quantile lies between those of its components.
        ends = loc + scale * normal
        low, high = ends.amin(0), ends.amax(0)
        scale = scale.clamp(min=_tiny(scale))
        middle = (loc.mean(0) + normal * self.sd().double()).clamp(low, high)
        for _ in range(_STEPS):
            place = (middle - loc) / scale
            excess = torch.special.ndtr(place).mean(0) - level
            low, high = torch.where(excess < 0, middle, low), torch.where(excess < 0, high, middle)
            if excess.abs().max() < _PRECISE:
                break
            slope = (torch.exp(-0.5 * place.square()) / scale).mean(0) / math.sqrt(2 * math.pi)
            middle = (middle - excess / slope.clamp(min=_tiny(slope))).clamp(low, high)
        # Without spread the distribution has steps.
        rough = (excess.abs() >= _PRECISE).nonzero().squeeze(-1)
        if len(rough):
            loc, scale, low, high = loc[:, rough], scale[:, rough], low[rough], high[rough]
            for _ in range(_HALVINGS):
                half = (low + high) / 2
                below = torch.special.ndtr((half - loc) / scale).mean(0) < level
                low, high = torch.where(below, half, low), torch.where(below, high, half)
            middle[rough] = (low + high) / 2
        return middle.to(self.loc)


def _tiny(values: Tensor) -> float:
    return torch.finfo(values.dtype).tiny


def group_rewards(
    model: RewardModel, batch: FeatureBatch, counts: Tensor | None = None
) -> GroupRewards:
    """Return the distribution of r_i - sum_j p_j r_j over the responses j to the same prompt.

    What all responses to a prompt share drops out: their level, which no preference identifies
    (spec 2.8.1), and what w adds to all of them alike. It depends on the texts of the group
    alone; there is no seed.

    Args:
        model: The model.
        batch: Raw states; pairs, preferences and ratings are not read.
        counts: How often each response stands in its group, shape (R,), > 0; once if omitted.
            p_j is its share.
    """
    with evaluation_mode(model):
        return GroupRewards(*model.group_mixture(batch, NUM_NODES, shares(batch, counts)))

"""The distribution of a response's reward relative to the other responses to its prompt."""

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.reward_model import RewardModel

# Fixed draws of w. A scrambled Sobol net of this size gives standard deviations right to 1%.
NUM_NODES: Final = 128
_HALVINGS: Final = 50


@dataclass(frozen=True)
class GroupRewards:
    """Distribution of r minus the group's mean reward, as an equal mixture of Normals.

    The mixture runs over values of the parameters and fixed draws of w that all responses to a
    prompt share; given both, z is integrated exactly.

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

    def quantile(self, level: float) -> Float[Tensor, " responses"]:
        """Return its quantile at a level in (0, 1), shape (R,), by bisection."""
        loc = self.loc.flatten(0, 1).double()
        scale = self.variance.flatten(0, 1).double().sqrt()
        # A mixture's quantile lies between those of its components.
        ends = loc + scale * torch.special.ndtri(torch.tensor(level, dtype=torch.float64))
        low, high = ends.amin(0), ends.amax(0)
        scale = scale.clamp(min=torch.finfo(torch.float64).tiny)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            below = torch.special.ndtr((middle - loc) / scale).mean(0) < level
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return ((low + high) / 2).to(self.loc)


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
        return centred_rewards(*model.reward_mixture(batch, NUM_NODES), batch, counts)


def centred_rewards(
    loc: Float[Tensor, "values draws responses"],
    variance: Float[Tensor, "values draws responses"],
    batch: FeatureBatch,
    counts: Tensor | None = None,
) -> GroupRewards:
    """Return the same from a mixture that is at hand.

    Args:
        loc: Means of the rewards, for each value of the parameters and draw of w.
        variance: Their variances, likewise.
        batch: What they were computed from.
        counts: As in :func:`group_rewards`.
    """
    owner = batch.response_prompt
    counts = torch.ones(len(owner), device=owner.device) if counts is None else counts
    share = counts / _group_sums(counts, owner, batch.num_prompts)[owner]
    level = _group_sums(share * loc, owner, batch.num_prompts)[..., owner]
    common = _group_sums(share**2 * variance, owner, batch.num_prompts)[..., owner]
    # (1 - p_i)^2 v_i + sum over j != i of p_j^2 v_j
    return GroupRewards(loc - level, ((1 - 2 * share) * variance + common).clamp(min=0))


def _group_sums(values: Tensor, owner: Tensor, num_prompts: int) -> Tensor:
    """Return sums over the responses of each prompt, shape (..., P)."""
    sums = values.new_zeros(*values.shape[:-1], num_prompts)
    return sums.index_add_(-1, owner, values)

"""Cumulative logit of ordered outcomes: the base of Rao-Kupper ties and graded preferences."""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from vrm_pyro.models.likelihoods.base import PreferenceLikelihood, like
from vrm_pyro.models.likelihoods.learned import PositiveLikelihood
from vrm_pyro.models.likelihoods.logistic import Elementwise, LogisticLikelihood


class CumulativeLogit(LogisticLikelihood):
    """P(c >= l / (L - 1) | Delta) = sigmoid(Delta - t_l) for L ordered outcomes (spec 2.4).

    The cutpoints t_1 < ... < t_{L-1} are symmetric about 0, so that exchanging the answers
    reverses the grades. With t_0 = -inf, t_L = inf, a = Delta - t_l and b = Delta - t_{l+1},
    level l has the probability sigmoid(a) - sigmoid(b).
    """

    @property
    @abstractmethod
    def num_levels(self) -> int:
        """Number L of outcomes, at least 3."""

    @property
    @abstractmethod
    def steps(self) -> tuple[float, ...] | Tensor:
        """Positive distances from 0 to the first positive cutpoint, and between further ones.

        There are (L - 1) // 2. With odd L the middle level is a tie, with cutpoints at plus and
        minus the first step. With even L, 0 is a cutpoint.
        """

    def learned(self) -> PreferenceLikelihood:
        """Return a module that learns the steps, starting from these."""
        return _CumulativeLogitModule(self.num_levels, [float(step) for step in self.steps])

    @property
    def outcomes(self) -> tuple[float, ...]:
        """The grades l / (L - 1)."""
        last = self.num_levels - 1
        return tuple(level / last for level in range(self.num_levels))

    def _log_prob(self, delta: Tensor, preference: Tensor, log_sigmoid: Elementwise) -> Tensor:
        """Return the interpolation of log(sigmoid(a) - sigmoid(b)) between two levels."""
        lower, share = between_levels(preference.to(delta.dtype), self.num_levels)
        cuts, log_width = self._cutpoints(delta)

        def level_log_prob(level: Tensor) -> Tensor:
            tails = log_sigmoid(delta - cuts[level]) + log_sigmoid(cuts[level + 1] - delta)
            return tails + log_width[level]

        return (1 - share) * level_log_prob(lower) + share * level_log_prob(lower + 1)

    def _probability(self, delta: Tensor, sigmoid: Elementwise) -> Tensor:
        """Return the mean of sigmoid(Delta - t) over the two cutpoints around the middle."""
        cuts, _ = self._cutpoints(delta)
        below, above = cuts[self.num_levels // 2], cuts[(self.num_levels + 1) // 2]
        return 0.5 * (sigmoid(delta - below) + sigmoid(delta - above))

    def score(
        self, delta: Float[Tensor, "*#shape"], preference: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*#shape"]:
        """Return the interpolation of 1 - sigmoid(a) - sigmoid(b) between two levels."""
        lower, share = between_levels(preference.to(delta.dtype), self.num_levels)
        cuts, _ = self._cutpoints(delta)

        def level_score(level: Tensor) -> Tensor:
            # Write 1 - sigmoid(a) as sigmoid(-a), to avoid cancellation at large |Delta|.
            return torch.sigmoid(cuts[level] - delta) - torch.sigmoid(delta - cuts[level + 1])

        return (1 - share) * level_score(lower) + share * level_score(lower + 1)

    def information(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the sum over levels of p score^2."""
        cuts, log_width = self._cutpoints(delta)
        above, below = delta.unsqueeze(-1) - cuts[:-1], cuts[1:] - delta.unsqueeze(-1)
        chance = (logsigmoid(above) + logsigmoid(below) + log_width).exp()
        return (chance * (torch.sigmoid(-above) - torch.sigmoid(-below)) ** 2).sum(-1)

    def _cutpoints(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Return t_0 .. t_L, shape (L + 1,), and log(1 - e^{t_l - t_{l+1}}), shape (L,).

        The second is the last term of log(sigmoid(a) - sigmoid(b)) = log sigmoid(a)
        + log sigmoid(-b) + log(1 - e^{b-a}). It is computed from the steps, because b - a loses
        precision where Delta is large.
        """
        steps = like(self.steps, delta)
        positive = steps.cumsum(0)
        infinite = steps.new_full((1,), math.inf)
        if self.num_levels % 2:
            middle, widths = [], [steps.flip(0)[:-1], 2 * steps[:1], steps[1:]]
        else:
            middle, widths = [steps.new_zeros(1)], [steps.flip(0), steps]
        cuts = torch.cat([-infinite, -positive.flip(0), *middle, positive, infinite])
        width = torch.cat([infinite, *widths, infinite])
        return cuts, torch.log(-torch.expm1(-width))


def between_levels(value: Tensor, num_levels: int) -> tuple[Tensor, Tensor]:
    """Return the level at or below a value in [0, 1], and the share of the next level.

    Levels are l / (L - 1) for l = 0 .. L - 1; the lower one is at most L - 2. A value between two
    levels, such as a mean over raters, is split between both in proportion.
    """
    position = value * (num_levels - 1)
    lower = position.detach().floor().clamp(0, num_levels - 2).long()
    return lower, position - lower


class _CumulativeLogitModule(PositiveLikelihood, CumulativeLogit):
    """A cumulative logit with learned steps.

    Args:
        num_levels: L.
        steps: Steps at the start, (L - 1) // 2 positive numbers.
    """

    def __init__(self, num_levels: int, steps: Sequence[float]) -> None:
        super().__init__(steps)
        self._num_levels = num_levels

    @property
    def num_levels(self) -> int:
        """Number L of outcomes."""
        return self._num_levels

    @property
    def steps(self) -> Tensor:
        """The steps, shape ((L - 1) // 2,)."""
        return self.values

"""Rao and Kupper's likelihood of a preference with ties."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.models.likelihoods.base import PreferenceLikelihood, like
from vrm_pyro.models.likelihoods.cumulative_logit import CumulativeLogit
from vrm_pyro.models.likelihoods.learned import PositiveLikelihood
from vrm_pyro.models.likelihoods.logistic import Elementwise, LogisticLikelihood


class _RaoKupperFormulas(CumulativeLogit):
    """Cumulative logit of loss, tie and win, for a fixed or learned threshold (spec 2.4)."""

    takes_margin: ClassVar[bool] = True

    @property
    def num_levels(self) -> int:
        """Loss, tie, win."""
        return 3

    def given_margin(self, margin: Tensor | None) -> PreferenceLikelihood:
        """Return the likelihood with each pair's margin, where it has one, as the threshold."""
        return self if margin is None else KnownThreshold(self.steps, margin)


@dataclass(frozen=True)
class RaoKupper(_RaoKupperFormulas):
    """p(win) = sigmoid(Delta - t), p(loss) = sigmoid(-Delta - t), p(tie) the rest (spec 2.4).

    For rows whose ``preference`` is 1, 0.5 or 0; other values are soft labels. Raters do not
    notice a reward difference below about t. The tie probability falls as e^{-|Delta|}. The win
    term alone is the "margin" loss -log sigmoid(Delta - t); ties make it a normalised likelihood.

    The ``margin`` of a row, if present, is the known t of its pair. It acts only on the label of
    that pair. New text has no known margin, so predictions use ``threshold``.

    Args:
        threshold: t > 0 in reward units; the initial value if learned. At Delta = 0, a share
            tanh(t / 2) of the pairs is tied.
        learn: Learn t, with the weak prior log t ~ Normal(0, 2^2), counted once for the data set.

    Raises:
        ValueError: If ``threshold`` is not a positive number.

    >>> rao_kupper = RaoKupper(threshold=1.0, learn=False)
    >>> rao_kupper.outcome_probabilities(torch.tensor(0.0))  # loss, tie, win
    tensor([0.2689, 0.4621, 0.2689])
    """

    threshold: float = 0.5
    learn: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.threshold < math.inf:
            raise ValueError(
                f"RaoKupper: threshold is {self.threshold}, but must be above 0 and finite. "
                "Without ties use BradleyTerry."
            )

    @property
    def steps(self) -> tuple[float, ...]:
        """The threshold alone."""
        return (self.threshold,)

    def build(self) -> PreferenceLikelihood:
        """Return the likelihood itself, or its module with a learned threshold."""
        return _RaoKupperModule((self.threshold,)) if self.learn else self


class _RaoKupperModule(PositiveLikelihood, _RaoKupperFormulas):
    """Rao-Kupper likelihood with its threshold as a parameter."""

    @property
    def steps(self) -> Tensor:
        """The threshold alone, shape (1,)."""
        return self.values


class KnownThreshold(LogisticLikelihood):
    """Rao-Kupper likelihood with a threshold per pair, which may be 0 (spec 2.4).

    At t = 0 it is Bradley-Terry: a tie has probability 0 and log-probability -inf, and so does
    every soft label, which is part tie. Rows with such labels are refused when they are read.

    Args:
        own: Threshold of pairs without a margin: a number, or a tensor of shape (1,).
        margin: Known thresholds >= 0, NaN for a pair without; broadcasts with Delta.
    """

    takes_margin: ClassVar[bool] = True

    def __init__(self, own: tuple[float, ...] | Tensor, margin: Tensor) -> None:
        self.own, self.margin = own, margin

    @property
    def outcomes(self) -> tuple[float, ...]:
        """Loss, tie and win of the first: 0, 1/2, 1."""
        return (0.0, 0.5, 1.0)

    def _log_prob(self, delta: Tensor, preference: Tensor, log_sigmoid: Elementwise) -> Tensor:
        """Return the interpolation of the log-probabilities of loss, tie and win."""
        threshold = self._threshold(delta)
        loss_share, tie_share, win_share = _shares(preference.to(delta.dtype))
        tied = tie_share > 0
        # Where nothing is tied, avoid log(0) of the width, whose gradient is NaN.
        width = -torch.expm1(-2 * torch.where(tied, threshold, 1.0))
        tie = log_sigmoid(delta + threshold) + log_sigmoid(threshold - delta) + width.log()
        decided = win_share * log_sigmoid(delta - threshold)
        decided = decided + loss_share * log_sigmoid(-delta - threshold)
        return decided + torch.where(tied, tie_share * tie, 0.0)

    def _probability(self, delta: Tensor, sigmoid: Elementwise) -> Tensor:
        """Return the mean of sigmoid(Delta - t) and sigmoid(Delta + t)."""
        threshold = self._threshold(delta)
        return 0.5 * (sigmoid(delta - threshold) + sigmoid(delta + threshold))

    def score(
        self, delta: Float[Tensor, "*#shape"], preference: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*#shape"]:
        """Return the interpolation of the slopes of loss, tie and win."""
        above, below, tie = self._slopes(delta)
        loss_share, tie_share, win_share = _shares(preference.to(delta.dtype))
        return win_share * above - loss_share * below + tie_share * tie

    def information(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the sum over outcomes of p score^2."""
        threshold = self._threshold(delta)
        above, below, tie = self._slopes(delta)
        win, loss = torch.sigmoid(delta - threshold), torch.sigmoid(-delta - threshold)
        both = torch.sigmoid(delta + threshold) * torch.sigmoid(threshold - delta)
        tied = -torch.expm1(-2 * threshold) * both
        return win * above**2 + loss * below**2 + tied * tie**2

    def _threshold(self, delta: Tensor) -> Tensor:
        own = like(self.own, delta).reshape(())
        margin = self.margin.to(delta)
        return torch.where(margin.isnan(), own, margin.nan_to_num())

    def _slopes(self, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return sigmoid(t - Delta), sigmoid(Delta + t), and the slope of a tie."""
        threshold = self._threshold(delta)
        tie = torch.sigmoid(-delta - threshold) - torch.sigmoid(delta - threshold)
        return torch.sigmoid(threshold - delta), torch.sigmoid(delta + threshold), tie


def _shares(preference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the shares of loss, tie and win in a label c; they sum to 1."""
    side = 2 * preference - 1
    return (-side).clamp(min=0), 1 - side.abs(), side.clamp(min=0)

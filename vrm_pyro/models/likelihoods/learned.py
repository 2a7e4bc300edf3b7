"""Preference likelihoods with learned parameters."""

import copy
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from vrm_pyro.models.likelihoods.base import PreferenceLikelihood

# Normal(0, 2^2) prior on a log parameter: 95% between 1/50 and 50. It keeps a parameter finite
# where data do not: without a single tie, a threshold would shrink to 0 forever.
PRIOR_SCALE: Final = 2.0


class LearnedLikelihood(nn.Module, PreferenceLikelihood):
    """Base of the modules that :meth:`PreferenceLikelihood.build` returns (spec 2.4).

    The formulas of a likelihood stand once, in a class that reads the parameter as an attribute.
    In the settings dataclass it is a number; in the module, a property that transforms an
    unbounded ``nn.Parameter``. The property is always float64: rounded to float32, it would break
    the antisymmetry for a float64 Delta.
    """

    def detach(self) -> "LearnedLikelihood":
        """Return a copy whose parameters need no gradient."""
        return copy.deepcopy(self).requires_grad_(False)


class PositiveLikelihood(LearnedLikelihood):
    """A likelihood with positive parameters, learned on a log scale (spec 2.4).

    Args:
        values: Initial values of the parameters, all positive.
    """

    def __init__(self, values: Sequence[float]) -> None:
        super().__init__()
        self.log_values = nn.Parameter(torch.tensor(values, dtype=torch.float64).log().float())

    @property
    def values(self) -> Tensor:
        """The parameters, in float64."""
        return self.log_values.double().exp()

    def log_prior(self) -> Tensor:
        """Return the sum of log Normal(log value | 0, 2^2), up to a constant."""
        return -0.5 * (self.log_values / PRIOR_SCALE).square().sum()

"""Preference likelihoods with learned parameters."""

import copy
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from vrm_pyro.models.likelihoods.base import PreferenceLikelihood

# Normal(0, 2^2) on a log parameter: 95% between 1/50 and 50. It keeps a parameter finite where
# the data cannot: a threshold without a single tie would go to 0 for ever.
PRIOR_SCALE: Final = 2.0


class LearnedLikelihood(nn.Module, PreferenceLikelihood):
    """Base of the modules that :meth:`PreferenceLikelihood.build` returns.

    A likelihood writes its formulas once, in a class that reads the parameter as an attribute.
    The entry of the table has it as a number; the module, as a property of an unbounded
    ``nn.Parameter``. The property is in float64 whatever the module's dtype: rounded to float32,
    it would break the antisymmetry for float64 differences.
    """

    def detach(self) -> "LearnedLikelihood":
        """Return a copy whose parameters take no gradient."""
        return copy.deepcopy(self).requires_grad_(False)


class PositiveLikelihood(LearnedLikelihood):
    """A likelihood with positive parameters, learned by their logarithms.

    Args:
        values: Parameters at the start, all positive.
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

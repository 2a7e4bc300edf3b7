"""The outcome-aware guide with the full covariance of z."""

from dataclasses import dataclass
from typing import ClassVar

from vrm_pyro.models.guides.outcome_aware import OutcomeAwareGuide


@dataclass(frozen=True)
class FullCovarianceGuide(OutcomeAwareGuide):
    """The updates of `OutcomeAwareGuide` with all of the covariance of z kept (spec 2.7).

    With Gaussian ratings and without preferences it is the exact posterior. Costs a Cholesky
    factor of size d_z for each response; spreads of scores, which mix features, need it.

    Args:
        hidden_size: Hidden units of the network of the preference site on z.
        weights: Family of q(w): that of the ``prior`` (a Dirichlet where the prior is of neither
            family), ``dirichlet``, or ``logistic_normal`` with full covariance.

    Raises:
        ValueError: If a setting is out of range.
    """

    full_covariance: ClassVar[bool] = True

"""Outcome-aware guide with a full covariance of z."""

from dataclasses import dataclass
from typing import ClassVar

from vrm_pyro.models.guides.outcome_aware import OutcomeAwareGuide


@dataclass(frozen=True)
class FullCovarianceGuide(OutcomeAwareGuide):
    """`OutcomeAwareGuide` with the full covariance of z (spec 2.7).

    It is the exact posterior for Gaussian ratings without preferences. Scores mix features, so
    their standard deviations need the covariance. It costs one Cholesky factorisation of a
    d_z x d_z matrix per response.

    Args:
        hidden_size: Hidden units of the network of the preference site on z.
        weights: Family of q(w): ``prior`` for that of the prior (Dirichlet if it is neither),
            ``dirichlet``, or ``logistic_normal`` with full covariance.

    Raises:
        ValueError: If a setting is out of range.
    """

    full_covariance: ClassVar[bool] = True

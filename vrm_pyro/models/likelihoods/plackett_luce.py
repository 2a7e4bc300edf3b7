"""Plackett-Luce likelihood: Bradley-Terry for pairs, one joint term for a whole ranking."""

from dataclasses import dataclass
from typing import ClassVar

from vrm_pyro.models.likelihoods.bradley_terry import BradleyTerry


@dataclass(frozen=True)
class PlackettLuce(BradleyTerry):
    """p(ranking) = prod_p e^{r_p} / sum_{q >= p} e^{r_q}, r_p the reward on place p (spec 2.4).

    The best is drawn in proportion to e^r, then the best of the rest, and so on. A pair that is
    part of no ranking is a ranking of two, which is Bradley-Terry. The pairs of one ranking are
    dependent: their product, which every other likelihood takes, is no likelihood of it.

    Needs objective ``sampled`` where the rows hold rankings of more than two: given w, the
    rewards of a ranking are several Gaussian numbers, and no quadrature over one Delta integrates
    them.
    """

    joint_rankings: ClassVar[bool] = True

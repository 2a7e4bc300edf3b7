"""Plackett-Luce likelihood: Bradley-Terry for pairs, one joint term for a whole ranking."""

from dataclasses import dataclass
from typing import ClassVar

from vrm_pyro.models.likelihoods.bradley_terry import BradleyTerry


@dataclass(frozen=True)
class PlackettLuce(BradleyTerry):
    """p(ranking) = prod_p e^{r_p} / sum_{q >= p} e^{r_q}, r_p the reward at rank p (spec 2.4).

    The best is drawn in proportion to e^r, then the best of the rest, and so on. A single pair is
    a ranking of two, which is Bradley-Terry. The pairs of one ranking are dependent, so their
    product, which every other likelihood uses, is only a composite likelihood.

    Rankings of more than two need objective ``sampled``: given w, their rewards are jointly
    Gaussian, which quadrature over one Delta cannot integrate.
    """

    joint_rankings: ClassVar[bool] = True

"""The objectives of spec 2.6, by name."""

from vrm_pyro.elbo.base import Objective, Terms, Weights
from vrm_pyro.elbo.collapsed import CollapsedObjective
from vrm_pyro.elbo.integrated import IntegratedObjective
from vrm_pyro.elbo.pairwise import PairwiseObjective
from vrm_pyro.elbo.sampled import SampledObjective

OBJECTIVES: dict[str, type[Objective]] = {
    "sampled": SampledObjective,
    "integrated": IntegratedObjective,
    "collapsed": CollapsedObjective,
    "pairwise": PairwiseObjective,
}

__all__ = [
    "OBJECTIVES",
    "CollapsedObjective",
    "IntegratedObjective",
    "Objective",
    "PairwiseObjective",
    "SampledObjective",
    "Terms",
    "Weights",
]

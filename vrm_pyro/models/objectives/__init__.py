"""Training objectives by name (spec 2.6)."""

from vrm_pyro.models.objectives.base import Objective, Terms, Weights
from vrm_pyro.models.objectives.collapsed import CollapsedObjective
from vrm_pyro.models.objectives.integrated import IntegratedObjective
from vrm_pyro.models.objectives.pairwise import PairwiseObjective
from vrm_pyro.models.objectives.sampled import SampledObjective

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

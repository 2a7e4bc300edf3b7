"""Laws of the latents: what the model needs of a distribution of w, and of one of z.

Model, guides, objectives and predictions use a law through these functions alone. A new family
registers itself with those that have a closed form; the others fall back on fixed draws.
"""

from vrm_pyro.laws.detach import detach, to_double
from vrm_pyro.laws.divergence import divergence, has_closed_divergence
from vrm_pyro.laws.drawing import Streams, draw_features, draw_weights
from vrm_pyro.laws.gaussian import Gaussian, as_gaussian, is_gaussian
from vrm_pyro.laws.logistic_normal import LogisticNormal
from vrm_pyro.laws.matching import as_dirichlet, as_logistic_normal
from vrm_pyro.laws.simplex import WeightMoments, expected_log, weight_moments, weight_nodes

__all__ = [
    "Gaussian",
    "LogisticNormal",
    "Streams",
    "WeightMoments",
    "as_dirichlet",
    "as_gaussian",
    "as_logistic_normal",
    "detach",
    "divergence",
    "draw_features",
    "draw_weights",
    "expected_log",
    "has_closed_divergence",
    "is_gaussian",
    "to_double",
    "weight_moments",
    "weight_nodes",
]

"""Distributions of w and z, and the functions that the model calls on them.

Model, guides, objectives and predictions use a distribution through these functions alone. A new
family registers itself with those that have a closed form; the others fall back on fixed draws.
"""

from vrm_pyro.models.distributions.detach import detach, to_double
from vrm_pyro.models.distributions.divergence import divergence, has_closed_divergence
from vrm_pyro.models.distributions.draws import Streams, TextStreams, draw_features, draw_weights
from vrm_pyro.models.distributions.gaussian import Gaussian, as_gaussian, is_gaussian
from vrm_pyro.models.distributions.logistic_normal import LogisticNormal
from vrm_pyro.models.distributions.matching import as_dirichlet, as_logistic_normal
from vrm_pyro.models.distributions.simplex import (
    WeightMoments,
    expected_log,
    weight_moments,
    weight_nodes,
)

__all__ = [
    "Gaussian",
    "LogisticNormal",
    "Streams",
    "TextStreams",
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

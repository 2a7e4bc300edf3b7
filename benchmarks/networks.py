"""Settings of networks for benchmarks, whatever the defaults of the package are."""

from typing import Any

from vrm_pyro.models.priors import ConditionalDirichletPrior, ConditionalNormalPrior
from vrm_pyro.models.ratings import GaussianRatings
from vrm_pyro.models.settings.config import ModelConfig


def network_config(**settings: Any) -> ModelConfig:
    """Return a model of networks with given settings."""
    networks = {
        "num_objectives": 8,
        "latent_dim": 8,
        "scores": "linear",
        "objective": "pairwise",
        "weight_prior": ConditionalDirichletPrior(64, 0.5, initial_concentration=5.0),
        "feature_prior": ConditionalNormalPrior(64, 0.7, initial_scale=0.5),
        "rating_likelihood": GaussianRatings(),
        "hyperprior_weight": 0.001,
        "recalibrate": False,
    }
    return ModelConfig(**(networks | settings))

"""Build a model from its settings."""

from vrm_pyro.models.bradley_terry import BradleyTerryModel
from vrm_pyro.models.ensemble import VRMEnsemble
from vrm_pyro.models.gate import GateModel
from vrm_pyro.models.likelihoods.weight_supervision import WeightSupervision
from vrm_pyro.models.priors.spread import add_spread
from vrm_pyro.models.reward import LinearReward
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.models.vrm import VRM


def build_model(
    config: ModelConfig, hidden_size: int, num_objectives: int, rated: bool
) -> RewardModel:
    """Return a freshly initialised model; call ``seed`` first for a reproducible start.

    Args:
        config: Checked settings.
        hidden_size: Size of the backbone states.
        num_objectives: K.
        rated: Whether ratings enter the objective.
    """
    if config.architecture == "gate":
        return GateModel(
            hidden_size,
            num_objectives,
            config.head_size,
            config.head_dropout,
            config.reward_scale,
        )
    if not config.has_latents:
        return BradleyTerryModel(
            hidden_size,
            config.head_size,
            config.head_dropout,
            config.ensemble_size,
            config.likelihood.joint_rankings,
            config.head_prior_scale if config.bayesian_head else 0.0,
            config.head_draws,
        )
    if config.ensemble_size > 1:
        size = range(config.ensemble_size)
        return VRMEnsemble([_vrm(config, hidden_size, num_objectives, rated) for _ in size])
    return _vrm(config, hidden_size, num_objectives, rated)


def _vrm(config: ModelConfig, hidden_size: int, num_objectives: int, rated: bool) -> VRM:
    latent_dim = config.latent_dim or num_objectives
    as_many = latent_dim == num_objectives
    identity = config.scores == "identity" or (config.scores == "auto" and as_many)
    on_scores = rated and config.supervision == "scores"
    ratings = None
    if on_scores:
        ratings = config.rating_likelihood.build(num_objectives, config.rating_power)
    reward = LinearReward(
        num_objectives,
        latent_dim,
        identity=identity,
        learn_scale=on_scores,
        initial_scale=config.reward_scale,
    )
    model = VRM(
        hidden_size,
        num_objectives,
        latent_dim,
        config.weight_prior,
        config.feature_prior,
        config.guide,
        reward,
        ratings,
        config.likelihood,
        config.rating_power if rated and config.supervision == "weights" else 0.0,
        config.head_prior_scale if config.bayesian_head else 0.0,
        config.head_draws,
        config.head_covariance,
        WeightSupervision(config.weight_supervision, config.weight_supervision_total),
    )
    if config.can_recalibrate:
        add_spread(model.weight_prior)
        add_spread(model.feature_prior, model.latent_dim)
    return model

"""Reasons why a check does not apply to a model or to its rows."""

from typing import Final

from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.models.guides import LabelBlindModule

NO_LATENTS: Final = "a Bradley-Terry model has no latent variables."
POINT: Final = "the guide is a point: it has no spread that could be right or wrong."
BLIND: Final = (
    "the guide does not see outcomes (mode vib), so draws given outcomes are those of the text."
)
RANKED: Final = "rankings are taken as a whole here; this check knows pairs alone."


def no_posterior(inputs: CheckInputs) -> str:
    """Return why there is no posterior with a spread; empty where there is one."""
    if inputs.vrm is None:
        return NO_LATENTS
    return POINT if inputs.loaded.config.guide.point else ""


def no_outcome_posterior(inputs: CheckInputs) -> str:
    """Return why there is no posterior given outcomes; empty where there is one."""
    if reason := no_posterior(inputs):
        return reason
    model = inputs.vrm
    assert model is not None
    return BLIND if isinstance(model.guide, LabelBlindModule) else ""


def rankings(inputs: CheckInputs) -> bool:
    """Return whether the rows hold rankings that the likelihood scores as a whole."""
    joint = inputs.loaded.model.likelihood.joint_rankings
    return joint and getattr(inputs.some.source, "pair_ranking", None) is not None


NO_PAIRS = "the rows hold no comparison with a positive weight."


def no_pairs(inputs: CheckInputs) -> bool:
    """Return whether no comparison has a positive weight."""
    return not bool((inputs.pair_weight > 0).any())

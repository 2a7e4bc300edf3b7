"""Reasons why a check does not apply to a model or its rows; empty where it applies."""

from typing import Final

from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.models.guides import LabelBlindModule

NO_LATENTS: Final = "a Bradley-Terry model has no latent variables."
NO_SPREAD: Final = "the guide is a point: it has no spread that could be right or wrong."
ONE_OBJECTIVE: Final = "there is one objective, whose weight is 1."
LABEL_BLIND: Final = (
    "the guide does not see outcomes (mode vib), so draws given outcomes are those of the text."
)
JOINT_RANKINGS: Final = "rankings are scored as a whole here; this check knows pairs alone."
NO_PAIRS: Final = "the rows hold no comparison with a positive weight."


def no_latents(inputs: CheckInputs) -> str:
    """Return why there are no latent variables."""
    return NO_LATENTS if inputs.vrm is None else ""


def no_posterior(inputs: CheckInputs) -> str:
    """Return why there is no posterior with a spread."""
    if reason := no_latents(inputs):
        return reason
    return NO_SPREAD if inputs.loaded.config.guide.point else ""


def no_outcome_posterior(inputs: CheckInputs) -> str:
    """Return why there is no posterior given outcomes."""
    if reason := no_posterior(inputs):
        return reason
    model = inputs.vrm
    assert model is not None
    return LABEL_BLIND if isinstance(model.guide, LabelBlindModule) else ""


def joint_rankings(inputs: CheckInputs) -> str:
    """Return that the rows hold rankings which the likelihood scores as a whole."""
    joint = inputs.loaded.model.likelihood.joint_rankings
    ranked = getattr(inputs.some.source, "pair_ranking", None) is not None
    return JOINT_RANKINGS if joint and ranked else ""


def no_pairs(inputs: CheckInputs) -> str:
    """Return that no comparison has a positive weight."""
    return "" if bool((inputs.pair_weight > 0).any()) else NO_PAIRS

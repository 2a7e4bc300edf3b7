"""Reasons why a check does not apply to a model or to its rows."""

from typing import Final

from vrm_pyro.diagnostics.checks.material import Material
from vrm_pyro.models.guides import LabelBlindModule

NO_LATENTS: Final = "a Bradley-Terry model has no latent variables."
POINT: Final = "the guide is a point: it has no spread that could be right or wrong."
BLIND: Final = (
    "the guide does not see outcomes (mode vib), so draws given outcomes are those of the text."
)
RANKED: Final = "rankings are taken as a whole here; this check knows pairs alone."


def no_posterior(material: Material) -> str:
    """Return why there is no posterior with a spread; empty where there is one."""
    if material.vrm is None:
        return NO_LATENTS
    return POINT if material.loaded.config.guide.point else ""


def no_outcome_posterior(material: Material) -> str:
    """Return why there is no posterior given outcomes; empty where there is one."""
    if reason := no_posterior(material):
        return reason
    model = material.vrm
    assert model is not None
    return BLIND if isinstance(model.guide, LabelBlindModule) else ""


def rankings(material: Material) -> bool:
    """Return whether the rows hold rankings that the likelihood scores as a whole."""
    joint = material.loaded.model.likelihood.joint_rankings
    return joint and getattr(material.some.source, "pair_ranking", None) is not None


NO_PAIRS = "the rows hold no comparison with a positive weight."


def no_pairs(material: Material) -> bool:
    """Return whether no comparison has a positive weight."""
    return not bool((material.pair_weight > 0).any())

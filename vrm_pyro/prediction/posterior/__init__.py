"""Draws of latents and outcomes of every row, as arrays."""

from vrm_pyro.prediction.posterior.draws import Draws, draw_posterior, weighted_draws
from vrm_pyro.prediction.posterior.texts import with_texts
from vrm_pyro.prediction.posterior.variables import (
    GROUPS,
    QUANTILES,
    SUMMARY_GROUPS,
    VARIABLES,
    Variable,
)

__all__ = [
    "GROUPS",
    "QUANTILES",
    "SUMMARY_GROUPS",
    "VARIABLES",
    "Draws",
    "Variable",
    "draw_posterior",
    "weighted_draws",
    "with_texts",
]

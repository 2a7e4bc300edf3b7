"""Draws of latents and outcomes of every row, and what a single prompt's posterior is worth."""

from vrm_pyro.prediction.posterior.draws import Draws, draw_posterior, weighted_draws
from vrm_pyro.prediction.posterior.evidence import Evidence, log_evidence
from vrm_pyro.prediction.posterior.refine import Refined, refine
from vrm_pyro.prediction.posterior.standard_batch import standard_batch
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
    "Evidence",
    "Refined",
    "Variable",
    "draw_posterior",
    "log_evidence",
    "refine",
    "standard_batch",
    "weighted_draws",
    "with_texts",
]

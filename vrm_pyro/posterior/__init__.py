"""Draws of latents and outcomes of every row, as arrays."""

from vrm_pyro.posterior.draws import Draws, draw_posterior, weighted_draws
from vrm_pyro.posterior.variables import GROUPS, Variable

__all__ = ["GROUPS", "Draws", "Variable", "draw_posterior", "weighted_draws"]

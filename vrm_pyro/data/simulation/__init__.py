"""Simulated data with known truth: texts for the full pipeline, scores to check inference."""

from vrm_pyro.data.simulation.scores import ScoreSimulation, simulate_scores
from vrm_pyro.data.simulation.simulation import SPLITS, Simulation
from vrm_pyro.data.simulation.texts import simulate_texts
from vrm_pyro.data.simulation.write import TRUTH_FILE, write_simulation

__all__ = [
    "SPLITS",
    "TRUTH_FILE",
    "ScoreSimulation",
    "Simulation",
    "simulate_scores",
    "simulate_texts",
    "write_simulation",
]

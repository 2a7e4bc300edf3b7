"""Data with known truth: texts for the whole pipeline, scores for checks of the inference."""

from vrm_pyro.simulate.scores import ScoreSimulation, simulate_scores
from vrm_pyro.simulate.simulation import SPLITS, Simulation
from vrm_pyro.simulate.texts import simulate_texts
from vrm_pyro.simulate.write import TRUTH_FILE, write_simulation

__all__ = [
    "SPLITS",
    "TRUTH_FILE",
    "ScoreSimulation",
    "Simulation",
    "simulate_scores",
    "simulate_texts",
    "write_simulation",
]

"""Figures of a trained reward model and of how it was trained."""

from vrm_pyro.report.curves import training_curves
from vrm_pyro.report.figures import reliability, reward_spread, weights_by_kind
from vrm_pyro.report.sensitivity import sensitivity_intervals

__all__ = [
    "reliability",
    "reward_spread",
    "sensitivity_intervals",
    "training_curves",
    "weights_by_kind",
]

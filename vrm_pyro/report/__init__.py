"""Figures of a trained reward model and of how it was trained."""

from vrm_pyro.report.curves import training_curves
from vrm_pyro.report.figures import reliability, reward_spread, weights_by_kind
from vrm_pyro.report.forest import draws_forest
from vrm_pyro.report.intervals import interval_panels
from vrm_pyro.report.lines import curve_panels
from vrm_pyro.report.sensitivity import sensitivity_intervals

__all__ = [
    "curve_panels",
    "draws_forest",
    "interval_panels",
    "reliability",
    "reward_spread",
    "sensitivity_intervals",
    "training_curves",
    "weights_by_kind",
]

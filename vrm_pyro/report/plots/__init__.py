"""Figures of a trained reward model and of its training."""

from vrm_pyro.report.plots.best_of_n import best_of_n_curves
from vrm_pyro.report.plots.curves import training_curves
from vrm_pyro.report.plots.figures import reliability, reward_spread, weights_by_kind
from vrm_pyro.report.plots.forest import draws_forest
from vrm_pyro.report.plots.intervals import interval_panels
from vrm_pyro.report.plots.lines import curve_panels
from vrm_pyro.report.plots.sensitivity import sensitivity_intervals

__all__ = [
    "best_of_n_curves",
    "curve_panels",
    "draws_forest",
    "interval_panels",
    "reliability",
    "reward_spread",
    "sensitivity_intervals",
    "training_curves",
    "weights_by_kind",
]

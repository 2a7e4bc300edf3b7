"""Checks of machine, rows and settings before a run, and of a model's scores after it."""

from vrm_pyro.training.preflight.all_checks import preflight
from vrm_pyro.training.preflight.check import Check, Verdict, worst
from vrm_pyro.training.preflight.encoding import check_drift, check_encoding
from vrm_pyro.training.preflight.environment import Environment, check_environment, environment
from vrm_pyro.training.preflight.labels import check_labels
from vrm_pyro.training.preflight.overfit import check_overfit
from vrm_pyro.training.preflight.signal import check_signal, held_out_accuracy

__all__ = [
    "Check",
    "Environment",
    "Verdict",
    "check_drift",
    "check_encoding",
    "check_environment",
    "check_labels",
    "check_overfit",
    "check_signal",
    "environment",
    "held_out_accuracy",
    "preflight",
    "worst",
]

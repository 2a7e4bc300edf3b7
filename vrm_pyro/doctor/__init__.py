"""Checks of machine, rows and settings before a run, and of a model's scores after it."""

from vrm_pyro.doctor.check import Check, Verdict, worst
from vrm_pyro.doctor.encoding import check_drift, check_encoding
from vrm_pyro.doctor.environment import Environment, check_environment, environment
from vrm_pyro.doctor.labels import check_labels
from vrm_pyro.doctor.overfit import check_overfit
from vrm_pyro.doctor.preflight import preflight
from vrm_pyro.doctor.signal import check_signal, held_out_accuracy

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

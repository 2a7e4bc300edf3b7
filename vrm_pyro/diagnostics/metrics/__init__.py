"""Metrics: arrays in, numbers with their uncertainty out.

>>> import numpy as np
>>> from vrm_pyro.diagnostics import metrics
>>> metrics.log_loss_values(np.array([0.8, 0.5]), np.ones(2)).round(3).tolist()
[0.223, 0.693]
"""

from vrm_pyro.diagnostics.metrics.active_units import active_units
from vrm_pyro.diagnostics.metrics.auroc import auroc, auroc_estimate
from vrm_pyro.diagnostics.metrics.length_baseline import length_baseline
from vrm_pyro.diagnostics.metrics.monotone_error import monotone_error
from vrm_pyro.diagnostics.metrics.pair_metrics import (
    accuracy,
    accuracy_at_50,
    accuracy_values,
    brier,
    brier_values,
    cluster_mean,
    ece,
    log_loss,
    log_loss_values,
    pair_metrics,
)
from vrm_pyro.diagnostics.metrics.uniformity import uniformity
from vrm_pyro.lazy import lazy_names

# These load ArviZ, xarray or scipy.stats, so they wait until they are asked for.
_MODULES = {
    name: f"{__name__}.{module}"
    for name, module in {
        "correlation_difference": "rating_correlation",
        "elpd": "predictive_density",
        "khat_limit": "power_scaling",
        "mean_test": "clustered_tests",
        "paired_bootstrap": "bootstrap",
        "power_scaling_index": "power_scaling",
        "prompt_bootstrap": "bootstrap",
        "rating_correlations": "rating_correlation",
        "reliability_curve": "reliability",
        "residuals_vanish": "clustered_tests",
        "ridge_ratings": "ridge_reference",
        "selective_accuracy": "selective",
        "smooth": "power_scaling",
        "temperature_scale": "temperature",
        "weight_standard_errors": "identification",
    }.items()
}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)

__all__ = [
    "accuracy",
    "accuracy_at_50",
    "accuracy_values",
    "active_units",
    "auroc",
    "auroc_estimate",
    "brier",
    "brier_values",
    "cluster_mean",
    "ece",
    "length_baseline",
    "log_loss",
    "log_loss_values",
    "monotone_error",
    "pair_metrics",
    "uniformity",
    *_MODULES,
]

"""What rows say of pairs beside a label, against a model that may have no use for it."""

import warnings
from dataclasses import replace

import numpy as np

from vrm_pyro.batch import FeatureSource, optional_column
from vrm_pyro.config import ModelConfig
from vrm_pyro.likelihood import RaoKupper
from vrm_pyro.rows import RowReport


def takes_margin(config: ModelConfig) -> bool:
    """Return whether the margin of a pair means something to the model."""
    return config.architecture == "vrm" and config.likelihood.takes_margin


def warn_ignored_margins(config: ModelConfig, source: FeatureSource) -> None:
    """Warn with the number of rows whose ``margin`` the model does not use.

    Warns:
        UserWarning: Once for all rows.
    """
    margin = optional_column(source, "pair_margin")
    if margin is None or takes_margin(config):
        return
    warnings.warn(
        f'"margin" is ignored in {int((~np.isnan(margin)).sum()):,} rows: '
        f"{_likelihood(config)} takes no threshold of each pair; model.likelihood "
        f"{RaoKupper.__name__} (model.architecture vrm) does.",
        UserWarning,
        stacklevel=3,
    )


def count_ignored_margins(config: ModelConfig, report: RowReport) -> RowReport:
    """Return a report that says whether the model used the margins it counts."""
    return report if takes_margin(config) else replace(report, margins_ignored=report.margins)


def _likelihood(config: ModelConfig) -> str:
    if config.architecture != "vrm":
        return f"model.architecture {config.architecture}"
    return f"model.likelihood {type(config.likelihood).__name__}"

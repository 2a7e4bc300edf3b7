"""Check that the model can use the margins and rankings of the rows."""

import warnings
from dataclasses import replace

import numpy as np

from vrm_pyro.data.rows import RowReport
from vrm_pyro.data.source import FeatureSource, optional_column
from vrm_pyro.errors import InputError
from vrm_pyro.models.likelihoods import RaoKupper
from vrm_pyro.models.settings.config import ModelConfig


def takes_margin(config: ModelConfig) -> bool:
    """Return whether the model uses the margin of a pair."""
    return config.has_latents and config.likelihood.takes_margin


def check_rankings(config: ModelConfig, source: FeatureSource) -> None:
    """Refuse rankings under an objective that integrates pair by pair.

    Args:
        config: Settings.
        source: Training rows, with states or without.

    Raises:
        InputError: If the likelihood takes rankings as a whole and the objective cannot.
    """
    joint = config.has_latents and config.likelihood.joint_rankings
    count = _num_rankings(source)
    if joint and count and config.objective != "sampled":
        raise InputError(
            f"model.objective is {config.objective}, but the training rows hold {count:,} "
            f"rankings of more than two responses, which model.likelihood "
            f"{type(config.likelihood).__name__} takes as a whole: that needs model.objective "
            "sampled. Or set model.likelihood to BradleyTerry, which takes their pairs (a "
            "composite likelihood)."
        )


def warn_rankings_as_pairs(config: ModelConfig, source: FeatureSource) -> None:
    """Warn with the number of rankings that the model takes pair by pair.

    Warns:
        UserWarning: Once for all rankings.
    """
    count = _num_rankings(source)
    if not count or config.likelihood.joint_rankings:
        return
    warnings.warn(
        f"{count:,} rankings of more than two responses are taken as pairs, each with 2 / n of "
        f"the weight: under {_likelihood(config)} that is a composite likelihood, and the "
        "objective bounds no evidence. model.likelihood PlackettLuce takes rankings as a whole "
        "(objective sampled).",
        UserWarning,
        stacklevel=3,
    )


def _num_rankings(source: FeatureSource) -> int:
    ranking = optional_column(source, "pair_ranking")
    return 0 if ranking is None else len(np.unique(ranking[ranking >= 0]))


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
    """Return a report that records whether the model used the margins it counts."""
    return report if takes_margin(config) else replace(report, margins_ignored=report.margins)


def _likelihood(config: ModelConfig) -> str:
    if not config.has_latents:
        return f"model.architecture {config.architecture}"
    return f"model.likelihood {type(config.likelihood).__name__}"

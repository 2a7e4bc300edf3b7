"""Traces of guide and program on parallel draws, with their log-probabilities."""

from collections.abc import Callable
from typing import Any

import pyro
from pyro import poutine
from pyro.poutine import Trace

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals


def scored_traces(
    guide: Callable[..., Any],
    program: Callable[..., Any],
    batch: FeatureBatch,
    conditionals: Conditionals,
    num_draws: int,
) -> tuple[Trace, Trace]:
    """Draw from a guide, replay a program at the draws and compute log-probabilities.

    Returns:
        Traces of guide and program; log-probabilities are (S, items) and carry scales.
    """
    with pyro.plate("draws", num_draws, dim=-2):
        guide_trace = poutine.trace(guide).get_trace(batch, conditionals)
        replayed = poutine.replay(program, trace=guide_trace)
        trace = poutine.trace(replayed).get_trace(batch, conditionals)
    guide_trace.compute_log_prob()
    trace.compute_log_prob()
    return guide_trace, trace

"""Held-out losses of trials, the choice among them, and differences between configs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.diagnostics.metrics.bootstrap import Difference, paired_bootstrap
from vrm_pyro.diagnostics.metrics.pair_metrics import (
    Estimate,
    accuracy_values,
    cluster_mean,
    log_loss_values,
)

Floats = NDArray[np.float64]


class PairScores(NamedTuple):
    """Log loss and accuracy of each pair, each averaged over seeds.

    Attributes:
        log_loss: In nats, shape (N,).
        accuracy: Probability that the label is on the predicted side, shape (N,).
    """

    log_loss: Floats
    accuracy: Floats


class Rates(NamedTuple):
    """Rates over pairs, with standard errors over prompts.

    Attributes:
        log_loss: Mean log loss in nats.
        accuracy: Share of labels on the side that the model prefers.
    """

    log_loss: Estimate
    accuracy: Estimate


def pair_scores(
    p_first: Sequence[Floats], table: PreferenceTable, pairs: NDArray[np.int64] | None = None
) -> PairScores:
    """Return the scores of pairs of a table, from predictions with one or several seeds.

    Args:
        p_first: Probability that the first response is preferred, by seed, each shape (N,).
        table: The rows.
        pairs: Which pairs these are, shape (N,); all when omitted.
    """
    label = table.preference if pairs is None else table.preference[pairs]
    return PairScores(
        np.mean([log_loss_values(p, label) for p in p_first], axis=0),
        np.mean([accuracy_values(p, label) for p in p_first], axis=0),
    )


def rates(scores: PairScores, table: PreferenceTable) -> Rates:
    """Return the mean scores over the pairs of a table."""
    return Rates(
        *(cluster_mean(values, table.pair_weight, table.pair_prompt) for values in scores)
    )


def compare(
    first: PairScores, second: PairScores, table: PreferenceTable
) -> tuple[Difference, Difference]:
    """Return the differences in log loss and accuracy, first minus second, over prompts."""
    log_loss, accuracy = (
        paired_bootstrap(a, b, table.pair_prompt, weight=table.pair_weight)
        for a, b in zip(first, second, strict=True)
    )
    return log_loss, accuracy


def within_one_error(
    losses: Mapping[int, Floats], table: PreferenceTable
) -> tuple[int, tuple[int, ...]]:
    """Return the trial with the lowest mean loss, and all that are not clearly worse.

    A trial is not clearly worse if its mean loss is above the lowest by at most one standard
    error of that difference. The error comes from a bootstrap over prompts of the losses of the
    same pairs, so what makes a prompt hard for all trials cancels.

    Args:
        losses: Log loss of each pair by number of the trial, each shape (N,).
        table: The rows.
    """
    weight, prompt = table.pair_weight, table.pair_prompt
    best = min(losses, key=lambda number: float(np.average(losses[number], weights=weight)))
    close = []
    for number, loss in losses.items():
        gap = paired_bootstrap(loss, losses[best], prompt, weight=weight)
        if gap.difference <= gap.standard_error:
            close.append(number)
    return best, tuple(sorted(close))

"""Common fields of certificates: the limit, its confidence and its statement."""

from dataclasses import dataclass
from typing import Final

from vrm_pyro.errors import InputError

MIN_UNITS = 8
"""Fewest independent units of the kl bounds with 2 sqrt(n) (spec 3.1)."""

LOSS_NAMES: Final = {"error": "error rate", "brier": "Brier score"}


@dataclass(frozen=True)
class Bound:
    """An upper limit of a risk.

    Args:
        value: Upper limit, in [0, 1].
        confidence: Probability, over the data (and over Monte Carlo draws where there are any),
            that the limit holds.
        n: Number of independent units; n / chi if units are dependent.
        unit: What a unit is, in words.
        loss: ``error`` (0-1 loss, a tie counts 1/2) or ``brier``.
        observed: Mean loss of the units on the certifying data.
        statement: The quantity that is bounded, in words.
    """

    value: float
    confidence: float
    n: float
    unit: str
    loss: str
    observed: float
    statement: str


def check_delta(**deltas: float) -> None:
    """Raise InputError unless every failure probability lies strictly between 0 and 1."""
    for name, delta in deltas.items():
        if not 0 < delta < 1:
            raise InputError(
                f"{name} is {delta}, but must lie between 0 and 1; 0.05 gives a limit that holds "
                "with confidence 0.95."
            )


def check_units(n: float, what: str) -> None:
    """Raise InputError unless there are enough independent units for the kl bounds."""
    if n < MIN_UNITS:
        raise InputError(
            f"{what} needs at least {MIN_UNITS} independent units, here are {n:g}. Give rows of "
            "more prompts."
        )

"""The result of a check: a number with its uncertainty, and what it means in words."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

LEVEL: Final = 0.01
"""Probability of a false alarm: each alarm is a test at this level, over all it looks at."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        name: Name of the check, as ``vrm-pyro diagnose --only`` takes it.
        value: The number it is about; None where it does not apply.
        unit: What the number counts, such as ``nats a prompt``.
        uncertainty: Standard error of ``value``; None where there is none.
        p_value: Probability of data as far from what a right model gives; None without a test.
        alarm: Whether ``p_value`` is below :data:`LEVEL`; None where there is no test, or the
            check does not apply.
        verdict: What was found, in words.
        advice: What to try; empty where nothing is wrong.
        applies: Whether the check applies to this model and these rows; if not, ``verdict`` says
            why.
        detail: Everything behind it: texts, numbers, and lists and dictionaries of them.
    """

    name: str
    value: float | None
    unit: str
    uncertainty: float | None
    p_value: float | None
    alarm: bool | None
    verdict: str
    advice: str = ""
    applies: bool = True
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; what is not finite is null."""
        return {
            "name": self.name,
            "applies": self.applies,
            "value": plain(self.value),
            "unit": self.unit,
            "uncertainty": plain(self.uncertainty),
            "p_value": plain(self.p_value),
            "alarm": self.alarm,
            "verdict": self.verdict,
            "advice": self.advice,
            "detail": plain(dict(self.detail)),
        }


def not_applicable(name: str, reason: str) -> Finding:
    """Return the finding of a check that does not apply, with the reason.

    >>> not_applicable("ratings", "the model was trained without ratings.").verdict
    'does not apply: the model was trained without ratings.'
    """
    return Finding(name, None, "", None, None, None, f"does not apply: {reason}", applies=False)


def is_alarm(p_value: float) -> bool:
    """Whether a p-value is below the level of an alarm; NaN, a test without data, is none.

    >>> is_alarm(0.005), is_alarm(0.2), is_alarm(float("nan"))
    (True, False, False)
    """
    return bool(p_value < LEVEL)


def smallest(p_values: Iterable[float]) -> float:
    """Return the p-value of several tests together: the smallest times their number (Bonferroni).

    NaN stands for a test that could not be made and does not count; NaN if none could.

    >>> smallest([0.5, 0.004, float("nan")])
    0.008
    """
    made = [p for p in p_values if not math.isnan(p)]
    return min(1.0, len(made) * min(made)) if made else math.nan


def plain(value: Any) -> Any:
    """Return a value as JSON has it: no arrays, no NaN, no infinity.

    >>> plain({"khat": np.array([0.25, np.inf])})
    {'khat': [0.25, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

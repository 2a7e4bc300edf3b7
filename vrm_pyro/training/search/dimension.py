"""What is tried for one setting: a list of values, or a range of numbers."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from vrm_pyro.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from optuna.trial import Trial as OptunaTrial

RANGE_KEYS = ("low", "high", "log", "int")


@dataclass(frozen=True)
class Choices:
    """A setting with a list of values.

    Args:
        key: Dotted key of the setting.
        values: The values: numbers, texts, true, false, null, lists or mappings.
    """

    key: str
    values: tuple[Any, ...]

    def suggest(self, trial: "OptunaTrial") -> Any:
        """Return the value that a trial uses."""
        labels = [label(value) for value in self.values]
        return self.values[labels.index(trial.suggest_categorical(self.key, labels))]

    def examples(self) -> tuple[Any, ...]:
        """Return values to check settings with: all."""
        return self.values

    def stored(self, value: Any) -> Any:
        """Return a value as Optuna stores it; None if it is not among the values."""
        known = [label(item) for item in self.values]
        return label(value) if label(value) in known else None

    def to_json(self) -> list[Any]:
        """Return what a file of a space holds for this setting."""
        return list(self.values)


@dataclass(frozen=True)
class Range:
    """A setting with a range of numbers, both ends included.

    Args:
        key: Dotted key of the setting.
        low: Smallest value.
        high: Largest value.
        log: Whether values are drawn on a logarithmic scale.
        integer: Whether values are whole numbers.
    """

    key: str
    low: float
    high: float
    log: bool = False
    integer: bool = False

    def suggest(self, trial: "OptunaTrial") -> Any:
        """Return the value that a trial uses."""
        if self.integer:
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def examples(self) -> tuple[Any, ...]:
        """Return values to check settings with: both ends."""
        return (self.low, self.high)

    def stored(self, value: Any) -> Any:
        """Return a value as Optuna stores it; None if it lies outside the range."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not self.low <= value <= self.high:
            return None
        return value if not self.integer or float(value).is_integer() else None

    def to_json(self) -> dict[str, Any]:
        """Return what a file of a space holds for this setting."""
        return {"low": self.low, "high": self.high, "log": self.log, "int": self.integer}


Dimension: TypeAlias = Choices | Range


def label(value: Any) -> str:
    """Return a value as Optuna stores it: JSON text.

    Optuna warns about choices that are no number or text, and takes true for 1.

    >>> label({"class_path": "DirichletPrior"}), label(0.5), label("mean")
    ('{"class_path": "DirichletPrior"}', '0.5', '"mean"')
    """
    return json.dumps(value, sort_keys=True)


def read_dimension(key: str, given: Any, where: str) -> Dimension:
    """Return what is tried for a setting.

    >>> read_dimension("train.weight_decay", {"low": 0.01, "high": 1, "log": True}, "space.yaml")
    Range(key='train.weight_decay', low=0.01, high=1.0, log=True, integer=False)

    Args:
        key: Dotted key of the setting.
        given: What stands there: a list, or a mapping with ``low`` and ``high``.
        where: Begins messages: file and section.

    Raises:
        InputError: If it is no list of different values and no range.
    """
    where = f"{where}: {key}"
    if isinstance(given, list):
        return _choices(key, given, where)
    if not isinstance(given, Mapping):
        raise InputError(
            f"{where}: {given!r} is one value. Give a list of values to try, such as [2, 4, 8], "
            "or a range, such as {low: 0.001, high: 0.1, log: true}. A fixed value belongs into "
            f"the config, or on the command line: --{key} {given}."
        )
    for name in given:
        if name not in RANGE_KEYS:
            raise InputError(
                f"{where}: a range has no {name!r}{did_you_mean(str(name), RANGE_KEYS)} "
                f"Allowed are {', '.join(RANGE_KEYS)}."
            )
    low, high = (_number(given, name, where) for name in ("low", "high"))
    log, integer = (_flag(given, name, where) for name in ("log", "int"))
    if low >= high:
        raise InputError(
            f"{where}: low is {low:g} and high is {high:g}, but low must be below high."
        )
    if log and low <= 0:
        raise InputError(
            f"{where}: low is {low:g}, but must be above 0 on a logarithmic scale. Set log to "
            "false, or raise low."
        )
    if integer and not (low.is_integer() and high.is_integer()):
        raise InputError(
            f"{where}: low is {low:g} and high is {high:g}, but both must be whole numbers, as "
            "int is true."
        )
    if integer:
        return Range(key, int(low), int(high), log, integer)
    return Range(key, low, high, log)


def _choices(key: str, given: list[Any], where: str) -> Choices:
    if not given:
        raise InputError(
            f"{where}: [] is an empty list. Give at least one value to try, such as [2, 4, 8]."
        )
    try:
        labels = [label(value) for value in given]
    except TypeError as error:  # YAML reads 2026-11-30 as a date
        raise InputError(
            f"{where}: {given} holds a value that is no number, text, true, false, null, list or "
            "mapping. Put it in quotes."
        ) from error
    for number, text in enumerate(labels):
        if text in labels[:number]:
            raise InputError(f"{where}: {given[number]!r} is listed twice; list each value once.")
    return Choices(key, tuple(given))


def _number(given: Mapping[str, Any], name: str, where: str) -> float:
    if name not in given:
        raise InputError(
            f"{where}: {name} is missing. A range needs both ends: {{low: 0.001, high: 0.1}}."
        )
    value = given[name]
    try:
        # YAML reads 1e-3 as text.
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not math.isfinite(number):
        raise InputError(
            f"{where}: {name} is {value!r}, but must be a finite number such as 0.1 or 1.0e-3."
        )
    return number


def _flag(given: Mapping[str, Any], name: str, where: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise InputError(f"{where}: {name} is {value!r}, but must be true or false.")
    return value

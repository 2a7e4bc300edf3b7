"""The result of one check: a verdict, what was found, and what to do about it."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Verdict = Literal["ok", "warn", "fail"]
_ORDER: tuple[Verdict, ...] = ("ok", "warn", "fail")


class Check(NamedTuple):
    """One check.

    Attributes:
        name: What was checked, in a few words.
        verdict: ``ok``; ``warn``: goes on, but read it; ``fail``: training would be wasted.
        finding: What was found, with its number.
        advice: What to do; empty when all is well.
    """

    name: str
    verdict: Verdict
    finding: str
    advice: str = ""

    def line(self) -> str:
        """Return the check as text."""
        text = f"{self.verdict:<4}  {self.name}: {self.finding}"
        return f"{text}\n      -> {self.advice}" if self.advice else text


def worst(checks: Iterable[Check]) -> Verdict:
    """Return the gravest verdict; ``ok`` when there is no check."""
    return max((check.verdict for check in checks), key=_ORDER.index, default="ok")

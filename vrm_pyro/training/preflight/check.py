"""The result of one check: a verdict, the finding, and what to do about it."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Verdict = Literal["ok", "warn", "fail"]
_ORDER: tuple[Verdict, ...] = ("ok", "warn", "fail")


class Check(NamedTuple):
    """Result of one check.

    Attributes:
        name: What was checked, in a few words.
        verdict: ``ok``; ``warn``: training is possible, but read the finding; ``fail``: training
            would be wasted.
        finding: What was found, with its number.
        advice: What to do; empty if the verdict is ``ok``.

    Examples:
        >>> print(Check("length", "ok", "the longer response wins in 52%").line())
        ok    length: the longer response wins in 52%
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
    """Return the worst verdict; ``ok`` if there is no check.

    Examples:
        >>> worst([Check("a", "ok", ""), Check("b", "warn", "")])
        'warn'
    """
    return max((check.verdict for check in checks), key=_ORDER.index, default="ok")

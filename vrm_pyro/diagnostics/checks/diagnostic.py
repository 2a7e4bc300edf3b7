"""An entry in the table of checks: function, question, cost."""

from collections.abc import Callable
from typing import NamedTuple

from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.finding import Finding


class Diagnostic(NamedTuple):
    """An entry of the table.

    Attributes:
        find: From a model and rows to the finding.
        question: What it answers.
        group: ArviZ group of what it looks at.
        costly: Whether it looks at some prompts alone.
    """

    find: Callable[[CheckInputs], Finding]
    question: str
    group: str
    costly: bool

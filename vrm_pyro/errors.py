"""What ends a run: an input that the user can put right, or a signal."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A file, row, setting or checkpoint that the user brought is not usable.

    The message says what is wrong, where, and how to fix it. The command line prints it on
    stderr without a traceback and exits with code 2.
    """


class Terminated(BaseException):
    """SIGTERM, as an exception: blocks that write a file can then remove what is unfinished."""


class EndedElsewhere(Exception):
    """Another process of this run has ended, and has said why."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean '...'?`` for a near miss, else a full stop.

    >>> did_you_mean("khatt", ["khat", "gaps"])
    "; did you mean 'khat'?"
    >>> did_you_mean("x", ["khat", "gaps"])
    '.'
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else "."

"""Exceptions that end a run: unusable input, a signal, or the end of another process."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A file, row, setting or checkpoint of the user cannot be used.

    The message says what is wrong, where, and how to fix it. The command line prints it on
    stderr without a traceback and exits with code 2.

    Examples:
        >>> from vrm_pyro.data.rows import load_table
        >>> load_table([{"prompt": "Why?", "chosen": "Because.", "rejected": ""}])
        Traceback (most recent call last):
        vrm_pyro.errors.InputError: ...
    """


class NoUsableRow(InputError):
    """No row of the input can be used."""


class Terminated(BaseException):
    """SIGTERM as an exception, so that blocks that write a file can remove unfinished output."""


class EndedElsewhere(Exception):
    """Another process of this run has ended and printed why."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean '...'?`` for a near miss, else a full stop.

    >>> did_you_mean("khatt", ["khat", "gaps"])
    "; did you mean 'khat'?"
    >>> did_you_mean("x", ["khat", "gaps"])
    '.'
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else "."

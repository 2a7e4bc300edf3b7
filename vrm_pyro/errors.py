"""The one exception for what a user can put right."""


class InputError(ValueError):
    """A file, row, setting or checkpoint that the user brought is not usable.

    The message says what is wrong, where, and how to fix it. The command line prints it on
    stderr without a traceback and exits with code 2.
    """


class EndedElsewhere(Exception):
    """Another process of this run has ended, and has said why."""

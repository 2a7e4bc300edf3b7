"""What ends a run: an input that the user can put right, or a signal."""


class InputError(ValueError):
    """A file, row, setting or checkpoint that the user brought is not usable.

    The message says what is wrong, where, and how to fix it. The command line prints it on
    stderr without a traceback and exits with code 2.
    """


class Terminated(BaseException):
    """SIGTERM, as an exception: blocks that write a file can then remove what is unfinished."""


class EndedElsewhere(Exception):
    """Another process of this run has ended, and has said why."""

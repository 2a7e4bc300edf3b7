"""What the user sees on stderr, and the exit code."""

import errno
import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final, TextIO

from vrm_pyro.errors import EndedElsewhere, InputError

OK: Final = 0
FAULT: Final = 1
BAD_INPUT: Final = 2
TERMINATED: Final = 143

# Seconds that a process which ends because another one did leaves to it for its message: the
# launcher ends all once the first has left.
_LAST_WORD: Final = 1.0

# What the machine refuses, and the user can put right.
_USER_ERRNO: Final = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENAMETOOLONG,
}


@dataclass
class Outcome:
    """The exit code of a guarded block."""

    code: int = OK


class Terminated(BaseException):
    """SIGTERM, as an exception: blocks that write a file can then remove what is unfinished."""


@contextmanager
def guard(program: str) -> Iterator[Outcome]:
    """Turn what a block raises into an exit code and a readable message.

    Of several processes that work together, the first to fail speaks, and the others end.

    Args:
        program: Begins the message, such as ``vrm-pyro train``.
    """
    outcome = Outcome()
    with _messages(), _sigterm():
        try:
            yield outcome
            _leave()
        except InputError as error:
            outcome.code = BAD_INPUT
            _fail(f"{program}: {error}")
        except OSError as error:
            if error.errno not in _USER_ERRNO:
                outcome.code = FAULT
                _report(program, error)
            else:
                outcome.code = BAD_INPUT
                where = "" if error.filename is None else f"{error.filename}: "
                _fail(f"{program}: {where}{error.strerror}. Free space or choose another place.")
        except SystemExit as leaving:  # --help
            outcome.code = leaving.code if isinstance(leaving.code, int) else OK
        except KeyboardInterrupt as interrupt:  # training says here where it can go on
            outcome.code = 128 + getattr(interrupt, "number", signal.SIGINT)
            _fail(f"{program}: {str(interrupt) or 'interrupted.'}")
        except Terminated:
            outcome.code = TERMINATED
            _fail(f"{program}: terminated.")
        except EndedElsewhere:
            outcome.code = FAULT
            time.sleep(_LAST_WORD)
        except Exception as error:  # noqa: BLE001 - the last door: the user gets a trace and a code
            outcome.code = FAULT
            _report(program, error)


def _report(program: str, error: Exception) -> None:
    if _together() and _lost_contact(error):
        _fail(
            f"{program}: another process of this run ended without a word; it may have been "
            "killed for want of memory. Training can go on from its last checkpoint with "
            "--train.resume_from_checkpoint true."
        )
        return
    trace = "".join(traceback.format_exception(error))
    _fail(f"{trace}{program}: this is a fault of vrm_pyro, not of your input; please report it.")


def _fail(message: str) -> None:
    """Say why this process ends, unless another one has said why all do."""
    if not _together():
        _say(message)
        return
    from vrm_pyro.processes import fails_first, is_main, rank

    if fails_first():
        # On a line of its own: the main process may be showing a bar.
        _say(message if is_main() else f"\n[process {rank()}] {message}")
    else:
        time.sleep(_LAST_WORD)


def _together() -> bool:
    # By the environment: a program that is alone should not wait for torch to be loaded.
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def _lost_contact(error: Exception) -> bool:
    from vrm_pyro.processes import lost_contact

    return lost_contact(error)


def _leave() -> None:
    if _together():
        from vrm_pyro.processes import leave

        leave()


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


@contextmanager
def _messages() -> Iterator[None]:
    """Show warnings as one line each, and what the package logs as it is, in one process."""
    log = logging.getLogger("vrm_pyro")
    handler = logging.StreamHandler(sys.stderr)
    before = log.level, log.propagate, warnings.showwarning
    log.addHandler(handler)
    speaks = not _together() or os.environ["RANK"] == "0"
    log.setLevel(logging.INFO if speaks else logging.ERROR)
    log.propagate = False
    warnings.showwarning = _show_warning if speaks else _hide_warning
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate, warnings.showwarning = before[1:]


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _say(f"warning: {message}")


def _hide_warning(*args: object, **kwargs: object) -> None:
    pass


@contextmanager
def _sigterm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""What the user sees on stderr, and the exit code."""

import errno
import logging
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

from vrm_pyro.errors import InputError, Terminated
from vrm_pyro.processes import is_main

OK: Final = 0
FAULT: Final = 1
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130
TERMINATED: Final = 143
# Seconds until torchrun has noticed that another process failed, many times over.
LAUNCHER_WAIT: Final = 5.0

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


@contextmanager
def guard(program: str) -> Iterator[Outcome]:
    """Turn what a block raises into an exit code and a readable message.

    Args:
        program: Begins the message, such as ``vrm-pyro train``.
    """
    outcome = Outcome()
    with _messages(), _sigterm():
        try:
            yield outcome
        except InputError as error:
            if is_main() or not _ended_by_the_launcher():
                _say(f"{program}: {error}")
            outcome.code = BAD_INPUT
        except OSError as error:
            if error.errno not in _USER_ERRNO:
                _report(program)
                outcome.code = FAULT
            else:
                where = "" if error.filename is None else f"{error.filename}: "
                _say(f"{program}: {where}{error.strerror}. Free space or choose another place.")
                outcome.code = BAD_INPUT
        except SystemExit as leaving:  # --help
            outcome.code = leaving.code if isinstance(leaving.code, int) else OK
        except KeyboardInterrupt as stop:
            _say_stopped(program, "interrupted", stop)
            outcome.code = INTERRUPTED
        except Terminated as stop:
            _say_stopped(program, "terminated", stop)
            outcome.code = TERMINATED
        except Exception:  # noqa: BLE001 - the last door: the user gets a trace and a code
            _report(program)
            outcome.code = FAULT


def _ended_by_the_launcher() -> bool:
    """Return whether the main process ended too: then it has said what is wrong.

    torchrun ends all processes when the first of them has failed.
    """
    try:
        time.sleep(LAUNCHER_WAIT)
    except Terminated:
        return True
    return False


def _report(program: str) -> None:
    traceback.print_exc(file=sys.stderr)
    _say(f"{program}: this is a fault of vrm_pyro, not of your input; please report it.")


def _say_stopped(program: str, how: str, stop: BaseException) -> None:
    if is_main():
        _say(f"{program}: {how}." + (f" {stop}" if str(stop) else ""))


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


@contextmanager
def _messages() -> Iterator[None]:
    """Show warnings as one line each, and what the package logs as it is."""
    log = logging.getLogger("vrm_pyro")
    handler = logging.StreamHandler(sys.stderr)
    if not is_main():
        handler.setLevel(logging.ERROR)
    before = log.level, log.propagate, warnings.showwarning
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    warnings.showwarning = _show_warning
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
    if is_main():
        _say(f"warning: {message}")


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

"""Messages on stderr, and the exit code."""

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

from vrm_pyro.errors import EndedElsewhere, InputError, Terminated
from vrm_pyro.processes import fails_first, is_main, lost_contact, num_processes, process_index

OK: Final = 0
FAULT: Final = 1
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130
TERMINATED: Final = 143
# Seconds that a process waits before it exits because another one failed. A launcher kills all
# processes once one has exited, so the failed one needs time to print its message.
_LAST_WORD: Final = 1.0

# Errors of the system that a user can fix.
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
    """Turn exceptions of a block into an exit code and a readable message.

    Only the first process to fail prints a message; the others exit silently.

    Args:
        program: Begins the message, such as ``vrm-pyro train``.
    """
    outcome = Outcome()
    with _messages(), _sigterm():
        try:
            yield outcome
        except InputError as error:
            outcome.code = BAD_INPUT
            _fail(f"{program}: {error}")
        except OSError as error:
            if error.errno not in _USER_ERRNO:
                outcome.code = FAULT
                _report(program, error)
            else:
                where = "" if error.filename is None else f"{error.filename}: "
                outcome.code = BAD_INPUT
                _fail(f"{program}: {where}{error.strerror}. Free space or choose another place.")
        except SystemExit as leaving:  # --help
            outcome.code = leaving.code if isinstance(leaving.code, int) else OK
        except KeyboardInterrupt as stop:
            _say_stopped(program, "interrupted", stop)
            outcome.code = INTERRUPTED
        except Terminated as stop:
            _say_stopped(program, "terminated", stop)
            outcome.code = TERMINATED
        except EndedElsewhere:
            outcome.code = FAULT
            time.sleep(_LAST_WORD)
        except Exception as error:  # noqa: BLE001 - last resort: traceback and exit code
            if _is_lack_of_memory(error):
                outcome.code = BAD_INPUT
                why = " ".join(str(error).split()) or "no more is free"
                _fail(f"{program}: the memory is too small ({why}). Ask for less at a time.")
                return
            outcome.code = FAULT
            _report(program, error)


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether torch or NumPy was refused memory."""
    words = ("not enough memory", "out of memory")
    of_torch = isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)
    return of_torch or isinstance(error, MemoryError)


def _report(program: str, error: Exception) -> None:
    if lost_contact(error):
        _fail(
            f"{program}: another process of this run ended without a message; it may have been "
            "killed for lack of memory. Resume training from the last checkpoint with "
            "--train.resume_from_checkpoint true."
        )
        return
    trace = "".join(traceback.format_exception(error))
    _fail(f"{trace}{program}: this is a fault of vrm_pyro, not of your input; please report it.")


def _fail(message: str) -> None:
    """Print why this process ends, unless another one has failed before."""
    if not fails_first():
        time.sleep(_LAST_WORD)
    elif num_processes() == 1 or is_main():
        _say(message)
    else:  # on a new line: the main process may be showing a progress bar
        _say(f"\n[process {process_index()}] {message}")


def _say_stopped(program: str, how: str, stop: BaseException) -> None:
    # The launcher kills the remaining processes after a failure; do not report that.
    if fails_first() if not str(stop) else is_main():
        _say(f"{program}: {how}." + (f" {stop}" if str(stop) else ""))


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


@contextmanager
def _messages() -> Iterator[None]:
    """Show each warning as one line, and log messages of the package without a prefix."""
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

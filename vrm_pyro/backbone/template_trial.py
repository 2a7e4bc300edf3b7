"""Try a chat template once, in a process of its own, under limits of time and size."""

import os
import signal
import time
import warnings
from typing import Any, Final

from vrm_pyro.errors import InputError

#: Seconds of computing that a short conversation may take; real templates take milliseconds.
SECONDS: Final = 5
#: Seconds on the clock, for a machine that is busy.
PATIENCE: Final = 60.0
#: Characters that a short conversation may become.
MOST_CHARACTERS: Final = 1_000_000
#: Bytes beside those of this process.
_MEMORY: Final = 1 << 30

_ASK: Final = [{"role": "user", "content": "Name a colour."}]
_ANSWER: Final = {"role": "assistant", "content": "Blue."}
_FINE, _TOO_LARGE = 0, 3


def try_template(tokenizer: Any, name: str) -> None:
    """Raise InputError if the chat template of a tokenizer does not end, or writes without end.

    A template is a program, and one from elsewhere may be anything. A conversation that it
    refuses is no fault here.

    Args:
        tokenizer: The tokenizer; one without a template passes.
        name: What messages call the backbone.
    """
    if not getattr(tokenizer, "chat_template", None) or not hasattr(os, "fork"):
        return
    with warnings.catch_warnings():
        # Newer Pythons warn that other threads do not exist in a copy: it needs none.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _render(tokenizer)
    status = _wait(child)
    if status is None or os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        raise InputError(
            f"backbone {name}: its chat template does not end: a conversation of two short "
            f"messages took more than {SECONDS} seconds. Give a backbone with another template, "
            "or mend chat_template.jinja (or chat_template in tokenizer_config.json)."
        )
    if not os.WIFEXITED(status) or os.WEXITSTATUS(status) == _TOO_LARGE:
        raise InputError(
            f"backbone {name}: its chat template writes more than {MOST_CHARACTERS:,} characters "
            "for a conversation of two short messages. Give a backbone with another template, or "
            "mend chat_template.jinja (or chat_template in tokenizer_config.json)."
        )


def _render(tokenizer: Any) -> None:
    """Render in the copy of this process, and end it."""
    code = _FINE
    try:
        import resource  # here: not every system has it

        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _limit(resource, resource.RLIMIT_CPU, SECONDS)
        with open("/proc/self/statm") as file:
            held = int(file.read().split()[0]) * resource.getpagesize()
        _limit(resource, resource.RLIMIT_AS, held + _MEMORY)
    except (
        ImportError,
        OSError,
        ValueError,
        AttributeError,
    ):  # a system without these: the clock is left
        pass
    try:
        for messages, opens in ((_ASK, True), ([*_ASK, _ANSWER], False)):
            text = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=opens
            )
            if len(text) > MOST_CHARACTERS:
                code = _TOO_LARGE
    except MemoryError:
        code = _TOO_LARGE
    except BaseException:  # noqa: BLE001 - refused, which is found and said elsewhere
        code = _FINE
    os._exit(code)


def _limit(resource: Any, kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _wait(child: int) -> int | None:
    """Return how a process ended; None if it had to be stopped."""
    end, pause = time.monotonic() + PATIENCE, 0.001
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None

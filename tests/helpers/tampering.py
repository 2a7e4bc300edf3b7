"""Trials with artefacts that somebody changed: how they are made, run and judged.

A :class:`Trial` puts an input into an empty folder and returns a command line. :func:`judge` runs
it and returns None if it was refused as it should be: exit code 2 after a message that names the
place, without a traceback, in time.
"""

import copy
import json
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from helpers.workspace import Run, vrm_pyro

from vrm_pyro.errors import InputError

SECONDS = 60
Words = Sequence[object]


def rewritten(name: str, content: Any) -> Callable[[Path], object]:
    """Return a change of a folder: JSON content in the place of one of its files."""
    return lambda folder: (folder / name).write_text(json.dumps(content), encoding="utf-8")


class Trial(NamedTuple):
    """One input that must be refused.

    Attributes:
        name: What was done to it.
        build: Puts it into an empty folder, given the workspace; returns the command line, or a
            function of the library to call.
        names: What the message must hold: a file, a field or an option.
    """

    name: str
    build: Callable[[Path, Path], Words | Callable[[], object]]
    names: tuple[str, ...]


class TookTooLong(BaseException):
    """A trial that did not end in time; not an Exception, so that nothing swallows it."""


@contextmanager
def in_time(seconds: int = SECONDS) -> Iterator[None]:
    """Raise TookTooLong in a block that takes longer."""

    def stop(number: int, frame: object) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judge(trial: Trial, place: Path, folder: Path) -> str | None:
    """Run a trial in an empty folder; return what is wrong with what happened, None if nothing."""
    words = trial.build(place, folder)
    try:
        with in_time():
            run = _call(words) if callable(words) else vrm_pyro(*words, warnings_are="ignore")
    except TookTooLong:
        return f"hang: {words}"
    if "Traceback" in run.err:
        return f"traceback: {run.err.strip().splitlines()[-2]}"
    if run.code == 0:
        return "believed"
    if run.code != 2:
        return f"exit code {run.code}: {run.err}"
    lacking = [part for part in trial.names if part not in run.err]
    return f"the message lacks {lacking}: {run.err[-600:]}" if lacking else None


def _call(door: Callable[[], object]) -> Run:
    """Call a function of the library as the command line runs a verb."""
    try:
        door()
    except InputError as error:
        return Run(2, "", str(error))
    except Exception as error:  # noqa: BLE001 - what the trial is about
        return Run(1, "", f"Traceback\n{error!r}\n")
    return Run(0, "", "")


Path_ = tuple[str | int, ...]
DROPPED: Any = object()


def nodes(content: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Yield every value below the top of JSON content with its keys; of a list the first."""
    items: Any = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = list(enumerate(content))[:1]
    for key, value in items:
        yield (*path, key), value
        yield from nodes(value, (*path, key))


def wrong_values(value: Any) -> list[Any]:
    """Return values that cannot stand where a value stood: of other kinds, or out of range."""
    if isinstance(value, bool):
        return ["yes", 2, [value], None]
    if isinstance(value, int):
        return ["many", 1.5, True, {}, -7]
    if isinstance(value, float):
        return ["much", False, [value], float("nan"), float("inf")]
    if isinstance(value, str):
        return [17, [value], {"text": value}, True]
    if isinstance(value, list):
        return ["list", 3, {"first": value}, None]
    if isinstance(value, dict):
        return ["object", [value], 4, None]
    return [[], {"a": 1}]


def name_of(path: Path_) -> str:
    """Return the dotted name of keys, with the places in lists left out."""
    return ".".join(str(key) for key in path if isinstance(key, str))


def json_faults(
    content: Any,
    count: int,
    free: Sequence[str] = (),
    optional: Sequence[str] = (),
    nullable: Sequence[str] = (),
    seed: int = 0,
) -> list[tuple[str, str, Any]]:
    """Return a sample of ways to spoil JSON content: name, last key, spoilt content.

    Args:
        content: What is right.
        count: Number of ways.
        free: Dotted names of values that may be anything, with all below them.
        optional: Names of keys that may be absent.
        nullable: Names of values that may be null.
        seed: Seed of the sample.
    """
    found = []
    for path, value in nodes(content):
        name = name_of(path)
        if any(name == part or name.startswith(f"{part}.") for part in free):
            continue
        wrong = [w for w in wrong_values(value) if w is not None or name not in nullable]
        if isinstance(path[-1], str) and name not in optional:
            wrong.append(DROPPED)
        found += [(path, item) for item in wrong]
    chosen = random.Random(seed).sample(found, min(count, len(found)))
    return [_spoilt(content, path, value) for path, value in chosen]


def _spoilt(content: Any, path: Path_, value: Any) -> tuple[str, str, Any]:
    changed = copy.deepcopy(content)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if value is DROPPED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    what = "dropped" if value is DROPPED else json.dumps(value)[:30]
    key = next(str(k) for k in reversed(path) if isinstance(k, str))
    return f"{name_of(path)} {what}", key, changed

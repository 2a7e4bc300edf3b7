"""Check shapes where they are annotated, and leave every other function as it is.

jaxtyping's import hook (``--jaxtyping-packages`` in ``pyproject.toml``) decorates every function
of the package and checks all its types at every call. Most have no array in their signature:
those are mypy's part. What has is checked at its first calls in every test: a training makes
thousands of calls with the shapes of the first. Both together save a third of the time of tests.
"""

import functools
import inspect
from collections import Counter

import jaxtyping

CHECKED_CALLS = 3  # of each function in each test
_jaxtyped = jaxtyping.jaxtyped
_calls: Counter = Counter()  # by function, since the test began


def jaxtyped(fn=None, *, typechecker):
    """Decorate what takes or returns arrays; in place of ``jaxtyping.jaxtyped``."""
    if fn is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if inspect.isfunction(fn) and not _has_shapes(fn):
        return fn
    checked = _jaxtyped(fn, typechecker=typechecker)
    return _at_first(checked, fn) if inspect.isfunction(fn) else checked


def _at_first(checked, fn):
    """Return a function that is ``checked`` at first and ``fn`` from then on."""

    @functools.wraps(fn)
    def wrapped(*args, **kwargs):
        if _calls[fn] >= CHECKED_CALLS:
            return fn(*args, **kwargs)
        _calls[fn] += 1
        return checked(*args, **kwargs)

    return wrapped


def begin_test() -> None:
    """Check the next calls of every function again."""
    _calls.clear()


def _has_shapes(fn) -> bool:
    """Whether an annotation names axes, such as ``Float[Tensor, "pairs hidden"]``."""
    # As text: an annotation may be a string, or a union around one with axes.
    found = (str(annotation) for annotation in inspect.get_annotations(fn).values())
    return any("jaxtyping" in text or "Tensor," in text or "ndarray," in text for text in found)


def install() -> None:
    """Let modules that are imported from now on use this decorator."""
    jaxtyping.jaxtyped = jaxtyped

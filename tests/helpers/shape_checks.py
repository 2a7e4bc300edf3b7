"""Check shapes where they are annotated, and leave every other function as it is.

jaxtyping's import hook (``--jaxtyping-packages`` in ``pyproject.toml``) decorates every function
of the package and checks all its types at every call. Most have no array in their signature:
those are mypy's part. Passing over them saves a fifth of the time of the tests.
"""

import functools
import inspect

import jaxtyping

_jaxtyped = jaxtyping.jaxtyped


def jaxtyped(fn=None, *, typechecker):
    """Decorate what takes or returns arrays; in place of ``jaxtyping.jaxtyped``."""
    if fn is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if inspect.isfunction(fn) and not _has_shapes(fn):
        return fn
    return _jaxtyped(fn, typechecker=typechecker)


def _has_shapes(fn) -> bool:
    """Whether an annotation names axes, such as ``Float[Tensor, "pairs hidden"]``."""
    # As text: an annotation may be a string, or a union around one with axes.
    found = (str(annotation) for annotation in inspect.get_annotations(fn).values())
    return any("jaxtyping" in text or "Tensor," in text or "ndarray," in text for text in found)


def install() -> None:
    """Let modules that are imported from now on use this decorator."""
    jaxtyping.jaxtyped = jaxtyped

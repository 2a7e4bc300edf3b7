"""Check types and shapes of every call into ``vrm_pyro``, faster than jaxtyping's own decorator.

jaxtyping's import hook (``--jaxtyping-packages`` in ``pyproject.toml``) decorates every function
with ``@jaxtyping.jaxtyped(typechecker=...)``. That decorator binds the arguments in Python and
checks them twice. This one checks the same annotations once. Axis names have one size per call.
"""

import functools
import inspect

import jaxtyping
from beartype import BeartypeConf, beartype

_jaxtyped = jaxtyping.jaxtyped
_checked = beartype(
    conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError)
)


def jaxtyped(fn=None, *, typechecker):
    """Check arguments and result of a function; in place of ``jaxtyping.jaxtyped``."""
    if fn is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    # A call of a generator function returns before its body has run.
    if not inspect.isfunction(fn) or inspect.isgeneratorfunction(fn):
        return _jaxtyped(fn, typechecker=typechecker)
    checked = _checked(fn)
    if checked is fn:  # nothing is annotated
        return fn

    @functools.wraps(fn)
    def in_its_own_scope(*args, **kwargs):
        with _jaxtyped("context"):
            return checked(*args, **kwargs)

    return in_its_own_scope


def install() -> None:
    """Let modules that are imported from now on use this decorator."""
    jaxtyping.jaxtyped = jaxtyped

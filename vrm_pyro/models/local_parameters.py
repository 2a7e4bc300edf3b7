"""Keep parameters of Pyro modules in their modules, for the package's own calls alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyro


@contextmanager
def local_parameters() -> Iterator[None]:
    """Keep parameters in modules, not in Pyro's process-wide store, within a block or function.

    Two models in one process then stay apart, and a program of the user's own keeps the setting
    that it has outside.
    """
    with pyro.settings.context(module_local_params=True):
        yield

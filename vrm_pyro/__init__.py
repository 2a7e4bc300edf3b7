"""Variational reward models as Pyro programs: why an answer is preferred, how sure they are."""

import pyro

__version__ = "0.1.0"

# Parameters live in modules, not in a process-wide store: two models in one process stay apart.
pyro.settings.set(module_local_params=True)

"""Variational reward models as Pyro programs: why an answer is preferred, how sure they are."""

__version__ = "0.1.0"

"""Benchmarks of reward models: published columns, official rule, and what the model adds to it."""

from vrm_pyro.diagnostics.suites.scoring import benchmark
from vrm_pyro.diagnostics.suites.table import SUITES

__all__ = ["SUITES", "benchmark"]

"""Gold reward of the best of n, by rule of choosing, for all n at once."""

from vrm_pyro.diagnostics.best_of_n.measure import best_of_n
from vrm_pyro.diagnostics.best_of_n.result import BestOfN

__all__ = ["BestOfN", "best_of_n"]

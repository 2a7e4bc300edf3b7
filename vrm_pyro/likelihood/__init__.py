"""Observation models: how a preference and a rating depend on rewards and scores."""

from vrm_pyro.likelihood.base import PreferenceLikelihood
from vrm_pyro.likelihood.bradley_terry import BradleyTerry
from vrm_pyro.likelihood.distributions import GaussianDelta, Preference
from vrm_pyro.likelihood.lapse import Lapse
from vrm_pyro.likelihood.probit import Probit
from vrm_pyro.likelihood.quadrature import expect_normal, hermite_nodes, root

PREFERENCE_LIKELIHOODS: dict[str, type[PreferenceLikelihood]] = {
    "BradleyTerry": BradleyTerry,
    "Lapse": Lapse,
    "Probit": Probit,
}

__all__ = [
    "PREFERENCE_LIKELIHOODS",
    "BradleyTerry",
    "GaussianDelta",
    "Lapse",
    "Preference",
    "PreferenceLikelihood",
    "Probit",
    "expect_normal",
    "hermite_nodes",
    "root",
]

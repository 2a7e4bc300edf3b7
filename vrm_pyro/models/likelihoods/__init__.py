"""Observation models: how a preference and a rating depend on rewards and scores."""

from vrm_pyro.models.likelihoods.base import PreferenceLikelihood
from vrm_pyro.models.likelihoods.bradley_terry import BradleyTerry
from vrm_pyro.models.likelihoods.davidson import Davidson
from vrm_pyro.models.likelihoods.distributions import GaussianDelta, Preference, observe
from vrm_pyro.models.likelihoods.graded import Graded
from vrm_pyro.models.likelihoods.lapse import Lapse
from vrm_pyro.models.likelihoods.plackett_luce import PlackettLuce
from vrm_pyro.models.likelihoods.probit import Probit
from vrm_pyro.models.likelihoods.quadrature import expect_normal, hermite_nodes, root
from vrm_pyro.models.likelihoods.ranking import Ranking
from vrm_pyro.models.likelihoods.rao_kupper import RaoKupper

PREFERENCE_LIKELIHOODS: dict[str, type[PreferenceLikelihood]] = {
    "BradleyTerry": BradleyTerry,
    "Davidson": Davidson,
    "Graded": Graded,
    "Lapse": Lapse,
    "PlackettLuce": PlackettLuce,
    "Probit": Probit,
    "RaoKupper": RaoKupper,
}

__all__ = [
    "PREFERENCE_LIKELIHOODS",
    "BradleyTerry",
    "Davidson",
    "GaussianDelta",
    "Graded",
    "Lapse",
    "PlackettLuce",
    "Preference",
    "PreferenceLikelihood",
    "Probit",
    "Ranking",
    "RaoKupper",
    "expect_normal",
    "hermite_nodes",
    "observe",
    "root",
]

"""The tables of classes that settings choose from."""

from collections.abc import Mapping
from typing import Final

from vrm_pyro.models.guides import GUIDES
from vrm_pyro.models.likelihoods import PREFERENCE_LIKELIHOODS
from vrm_pyro.models.priors import FEATURE_PRIORS, WEIGHT_PRIORS
from vrm_pyro.models.ratings import RATING_LIKELIHOODS

# Settings that hold a class, and the table its name must come from.
TABLES: Final[dict[str, Mapping[str, type]]] = {
    "weight_prior": WEIGHT_PRIORS,
    "feature_prior": FEATURE_PRIORS,
    "guide": GUIDES,
    "likelihood": PREFERENCE_LIKELIHOODS,
    "rating_likelihood": RATING_LIKELIHOODS,
}

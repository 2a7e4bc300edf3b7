"""Rating likelihoods: how a rating of a response depends on its objective scores.

To add one, write ``ratings/<name>.py`` with a frozen dataclass under :class:`RatingLikelihood`
and add one line here. The contract test of ``tests/ratings`` picks it up.
"""

from vrm_pyro.models.ratings.base import (
    RatingDistribution,
    RatingLikelihood,
    RatingModule,
    RatingValues,
)
from vrm_pyro.models.ratings.bernoulli import BernoulliRatings
from vrm_pyro.models.ratings.difference import DifferenceRatings
from vrm_pyro.models.ratings.gaussian import GaussianRatings, GaussianValues
from vrm_pyro.models.ratings.ordinal import OrdinalRatings
from vrm_pyro.models.ratings.prompt_level import PromptLevelRatings, SharedLevelValues

RATING_LIKELIHOODS: dict[str, type[RatingLikelihood]] = {
    "BernoulliRatings": BernoulliRatings,
    "DifferenceRatings": DifferenceRatings,
    "GaussianRatings": GaussianRatings,
    "OrdinalRatings": OrdinalRatings,
    "PromptLevelRatings": PromptLevelRatings,
}

__all__ = [
    "RATING_LIKELIHOODS",
    "BernoulliRatings",
    "DifferenceRatings",
    "GaussianRatings",
    "GaussianValues",
    "OrdinalRatings",
    "PromptLevelRatings",
    "RatingDistribution",
    "RatingLikelihood",
    "RatingModule",
    "RatingValues",
    "SharedLevelValues",
]

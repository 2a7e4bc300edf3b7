"""Check the settings of models without latent variables."""

from vrm_pyro.errors import InputError


def check_posterior(architecture: str, covariance: str, ensemble_size: int) -> None:
    """Raise InputError unless a baseline has the posterior of its head that settings ask for.

    Args:
        architecture: ``bradley_terry`` or ``gate``.
        covariance: ``model.head_covariance``.
        ensemble_size: Number of members.
    """
    if architecture == "gate":
        raise InputError(
            "model.bayesian_head is true, but model.architecture gate has point estimates alone."
        )
    if covariance != "laplace" or ensemble_size > 1:
        raise InputError(
            "model.bayesian_head is true, which for model.architecture bradley_terry needs "
            "model.head_covariance laplace and model.ensemble_size 1: a posterior of the last "
            "layer of one head."
        )


def check_rated(architecture: str, rated: bool) -> None:
    """Raise InputError for a gate without ratings.

    Args:
        architecture: ``bradley_terry`` or ``gate``.
        rated: Whether ratings are used.
    """
    if architecture == "gate" and not rated:
        raise InputError(
            "model.architecture is gate, whose scores are learned from ratings, but no rating is "
            'used. Add "chosen_ratings" / "rejected_ratings" to the training rows, or set '
            "model.supervision to scores."
        )

"""The posterior of the global parameters that settings ask for."""

from torch import nn

from vrm_pyro.models.epistemic.base import ParameterPosterior, head_parameters
from vrm_pyro.models.epistemic.diagonal import DiagonalPosterior
from vrm_pyro.models.epistemic.laplace import LaplacePosterior
from vrm_pyro.models.epistemic.shrinkage import ShrinkagePosterior
from vrm_pyro.models.guides import LabelBlindModule
from vrm_pyro.models.priors.shrinkage_normal import ShrinkageNormal


def choose_posterior(
    model: nn.Module,
    prior_scale: float,
    num_draws: int,
    covariance: str,
) -> ParameterPosterior | None:
    """Return the posterior of a model's global parameters; None for point estimates.

    Args:
        model: The model, whose feature prior may have a posterior of its own.
        prior_scale: Prior scale of A, b, beta and the last layers; 0 for point estimates of them.
        num_draws: Number M of fixed draws for predictions.
        covariance: ``diagonal`` or ``laplace``.
    """
    if prior_scale > 0:
        posterior = LaplacePosterior if covariance == "laplace" else DiagonalPosterior
        blind = isinstance(model.get_submodule("guide"), LabelBlindModule)
        names = ("guide",) if blind else ("weight_prior", "feature_prior")
        networks = {name: model.get_submodule(name) for name in names}
        found = head_parameters(model.get_submodule("reward"), networks)
        uncertain = {n: value for n, value in found.items() if n not in posterior.leaves_out}
        return posterior(uncertain, prior_scale, num_draws)
    if isinstance(model.get_submodule("feature_prior"), ShrinkageNormal):
        return ShrinkagePosterior("feature_prior", num_draws)
    return None

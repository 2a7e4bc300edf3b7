"""Objective ``sampled``: Pyro's ELBO of the full program, the reference for the others."""

from functools import partial
from typing import Any, ClassVar

from pyro import poutine
from pyro.infer import TraceMeanField_ELBO
from pyro.infer.util import check_fully_reparametrized, is_validation_enabled
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from vrm_pyro import names
from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.objectives.base import Objective, Terms, Weights, kl_terms
from vrm_pyro.models.vrm import VRM


class _Recording(TraceMeanField_ELBO):
    """Pyro's estimator without redundant work; it also records its parts.

    Pyro expands q and p to all particles, computes the KL of each copy, and scores the draws of
    w and z, which a closed-form KL does not need: a third of a step with 8 particles.

    Args:
        num_particles: Vectorised draws of all latents.
        kl: KL(q || p) of each latent site for one particle, summed, without the site's scale.
    """

    def __init__(self, num_particles: int, kl: dict[str, Tensor]) -> None:
        super().__init__(
            num_particles=num_particles, vectorize_particles=True, max_plate_nesting=1
        )
        self.kl = kl
        self.observed: dict[str, Tensor] = {}

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Any:
        if is_validation_enabled():  # Pyro's version checks the mean-field condition
            return super()._get_trace(model, guide, args, kwargs)
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(
            *args, **kwargs
        )
        guide_trace = prune_subsample_sites(guide_trace)
        model_trace = prune_subsample_sites(model_trace)
        model_trace.compute_log_prob(site_filter=lambda _, site: site["is_observed"])
        return model_trace, guide_trace

    def _differentiable_loss_particle(self, model_trace: Any, guide_trace: Any) -> Any:
        elbo: Any = 0.0
        for name, site in model_trace.nodes.items():
            if site["type"] != "sample":
                continue
            if site["is_observed"]:
                elbo = elbo + site["log_prob_sum"]
                self.observed[name] = site["log_prob_sum"].detach()
                continue
            own = guide_trace.nodes[name]
            if is_validation_enabled():
                check_fully_reparametrized(own)
            elbo = elbo - self.num_particles * own["scale"] * self.kl[name]
        return -elbo.detach(), -elbo


class SampledObjective(Objective):
    """``TraceMeanField_ELBO`` with w and z drawn: the reference for the other objectives.

    Source: spec 2.6.

    Args:
        num_draws: Vectorised particles per step.
    """

    name: ClassVar[str] = "sampled"
    bound: ClassVar[str] = "lower bound on the joint evidence of preferences and ratings"
    supports_free_bits: ClassVar[bool] = False

    def __init__(self, num_draws: int = 4) -> None:
        super().__init__()
        self.num_draws = num_draws

    def terms(
        self,
        model: VRM,
        guide: nn.Module,
        batch: FeatureBatch,
        conditionals: Conditionals,
        weights: Weights,
    ) -> Terms:
        """Run program and guide under Pyro's ELBO."""
        posterior = model.guide.posterior(batch, conditionals)
        kl_w, kl_z = (kl.sum() for kl in kl_terms(*posterior, conditionals))
        elbo = _Recording(self.num_draws, {names.WEIGHTS: kl_w, names.FEATURES: kl_z})
        draw = partial(model.guide, posterior=posterior)
        kappas = (weights.kl_weights, weights.kl_features)
        loss = elbo.differentiable_loss(model.program, draw, batch, conditionals, *kappas)
        zero = loss.new_zeros(())
        return Terms(
            -loss,
            sum(elbo.observed.get(site, zero) for site in (names.PREFERENCE, names.RANKING))
            / self.num_draws,
            elbo.observed.get(names.RATING, zero) / self.num_draws,
            kl_w.detach(),
            kl_z.detach(),
        )

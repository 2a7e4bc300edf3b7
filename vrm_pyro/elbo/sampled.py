"""Objective ``sampled``: Pyro's own ELBO on the full program, the reference."""

from typing import Any, ClassVar

import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn

from vrm_pyro import sites
from vrm_pyro.batch import FeatureBatch
from vrm_pyro.elbo.base import Objective, Terms, Weights, kl_terms
from vrm_pyro.heads import Heads
from vrm_pyro.model import VRM


class _Recording(TraceMeanField_ELBO):
    """Pyro's estimator, which also notes the observed log-probabilities it meets."""

    def __init__(self, num_particles: int) -> None:
        super().__init__(
            num_particles=num_particles, vectorize_particles=True, max_plate_nesting=1
        )
        self.observed: dict[str, Tensor] = {}

    def _differentiable_loss_particle(self, model_trace: Any, guide_trace: Any) -> Any:
        for name, site in model_trace.nodes.items():
            if site["type"] == "sample" and site["is_observed"] and "log_prob_sum" in site:
                self.observed[name] = site["log_prob_sum"].detach()
        return super()._differentiable_loss_particle(model_trace, guide_trace)


class SampledObjective(Objective):
    """``TraceMeanField_ELBO`` with w and z drawn; the others must agree with it in expectation.

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
        self, model: VRM, guide: nn.Module, batch: FeatureBatch, heads: Heads, weights: Weights
    ) -> Terms:
        """Run program and guide under Pyro."""
        elbo = _Recording(self.num_draws)
        kappas = (weights.kl_weights, weights.kl_features)
        loss = elbo.differentiable_loss(model.program, model.guide, batch, heads, *kappas)
        with torch.no_grad():
            kl_w, kl_z = kl_terms(*model.guide.posterior(batch, heads), heads)
        zero = kl_w.new_zeros(())
        return Terms(
            -loss,
            elbo.observed.get(sites.PREFERENCE, zero) / self.num_draws,
            elbo.observed.get(sites.RATING, zero) / self.num_draws,
            kl_w.sum(),
            kl_z.sum(),
        )

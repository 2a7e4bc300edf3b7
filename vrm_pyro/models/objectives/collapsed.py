"""Objective ``collapsed``: the program with z integrated out, importance draws of w."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from vrm_pyro import names
from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.conjugate import rating_evidence
from vrm_pyro.models.distributions import divergence
from vrm_pyro.models.objectives.base import Objective, Terms, Weights
from vrm_pyro.models.objectives.traces import scored_traces
from vrm_pyro.models.vrm import VRM


def prompt_log_weights(
    model: VRM, batch: FeatureBatch, conditionals: Conditionals, num_draws: int
) -> tuple[Tensor, Tensor]:
    """Run collapsed guide and program; return log weights (S, P) and preference part (S, P).

    log weight = log p(c | w, ratings) + log p(w) - log q(w), summed over the pairs of a prompt.
    """
    guide_trace, trace = scored_traces(
        model.collapsed_guide, model.collapsed_program, batch, conditionals, num_draws
    )
    log_ratio = (
        trace.nodes[names.WEIGHTS]["log_prob"] - guide_trace.nodes[names.WEIGHTS]["log_prob"]
    )
    preference = torch.zeros_like(log_ratio)
    if names.PREFERENCE in trace.nodes:
        per_pair = trace.nodes[names.PREFERENCE]["log_prob"]  # carries the pair weight
        preference = preference.index_add(1, batch.pair_prompt, per_pair)
    return log_ratio + preference, preference


class CollapsedObjective(Objective):
    """Importance-weighted bound with z integrated out: tighter than any mean-field bound.

    Source: spec 2.6, 2.13.

    Valid for Gaussian ratings, or none, and responses in at most one pair. The proposal is the
    guide's q(w | x, outcomes).

    Args:
        num_draws: Importance draws of w per prompt.
    """

    name: ClassVar[str] = "collapsed"
    bound: ClassVar[str] = "lower bound on the joint evidence, tighter than sampled and integrated"
    supports_tempering: ClassVar[bool] = False
    supports_free_bits: ClassVar[bool] = False
    single_use_responses: ClassVar[bool] = True

    def __init__(self, num_draws: int = 8) -> None:
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
        """Return log-mean-exp of the importance weights per prompt, plus the rating evidence."""
        log_weights, preference = prompt_log_weights(model, batch, conditionals, self.num_draws)
        per_prompt = torch.logsumexp(log_weights, dim=0) - math.log(self.num_draws)
        rating = per_prompt.new_zeros(())
        if conditionals.ratings is not None and batch.has_ratings:
            rating = rating_evidence(batch, conditionals).sum()
        with torch.no_grad():
            kl_w = divergence(model.guide.weights(batch, conditionals), conditionals.weights).sum()
        objective = per_prompt.sum() + rating
        return Terms(objective, preference.mean(0).sum(), rating, kl_w, kl_w.new_zeros(()))

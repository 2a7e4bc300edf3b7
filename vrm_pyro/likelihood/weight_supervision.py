"""Ratings on weights: cross-entropy between normalised ratings and w (spec 2.5 ii)."""

import torch
import torch.distributions as dist
from torch import Tensor

from vrm_pyro.batch import FeatureBatch
from vrm_pyro.laws import expected_log


def weight_targets(batch: FeatureBatch, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return a target t on the simplex per prompt, (P, K), and whether there is one, (P,).

    t is the mean over the prompt's rated responses of their ratings divided by their sum, a
    missing rating counting as 0. A normalised rating says how *good* a response is on an
    objective, not how much the objective matters: this supervision has no causal justification
    and is offered because it is closest to what is reported of the paper.

    Args:
        batch: Batch with standardised ratings.
        loc: Location of the rating unit: raw = standardised * scale + loc.
        scale: Scale of the rating unit.
    """
    raw = torch.where(batch.rating_mask, batch.ratings * scale + loc, 0.0).clamp(min=0)
    total = raw.sum(-1, keepdim=True)
    usable = (total > 0).to(raw.dtype)
    share = usable * raw / total.clamp(min=torch.finfo(raw.dtype).tiny)
    shape = (batch.num_prompts, raw.shape[-1])
    summed = raw.new_zeros(shape).index_add(0, batch.response_prompt, share)
    count = raw.new_zeros(shape[0]).index_add(0, batch.response_prompt, usable.squeeze(-1))
    return summed / count.clamp(min=1).unsqueeze(-1), count > 0


def expected_cross_entropy(weights: dist.Distribution, target: Tensor) -> Tensor:
    """Return E_q sum_k t_k log w_k, shape (P,).

    For q = Dir(alpha) it is sum_k t_k (psi(alpha_k) - psi(alpha_0)): a fractional multinomial
    whose posterior is Dir(prior + t).
    """
    return (target * expected_log(weights)).sum(-1)

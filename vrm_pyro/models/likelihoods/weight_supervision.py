"""Ratings on weights: losses between normalised ratings and w (spec 2.5 ii)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributions as dist
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import kl_divergence

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.errors import InputError
from vrm_pyro.models.distributions import expected_log, weight_moments
from vrm_pyro.models.networks import CONCENTRATION_FLOOR

WeightLoss = Literal["cross_entropy", "dirichlet_kl", "squared_error"]


@dataclass(frozen=True)
class WeightSupervision:
    """Closed-form loss between q(w) and the normalised ratings of its prompt (spec 2.5 ii).

    Args:
        loss: ``cross_entropy`` is a likelihood, a fractional multinomial. ``dirichlet_kl`` and
            ``squared_error`` are penalties: with them the objective bounds no evidence.
        total: nu, the total concentration of the target Dir(nu t) of ``dirichlet_kl``, in units
            of observations. It sets the variance of the target, t its mean. Other losses ignore
            it.
    """

    loss: WeightLoss = "cross_entropy"
    total: float = 10.0

    def score(
        self, weights: dist.Distribution, target: Float[Tensor, "prompts objectives"]
    ) -> Float[Tensor, " prompts"]:
        """Return minus the loss of every prompt; added to the objective times lambda.

        Args:
            weights: q(w | .), batch (P,), event (K,).
            target: Normalised ratings t.

        Raises:
            InputError: If ``dirichlet_kl`` meets a q(w) that is no Dirichlet.
        """
        if self.loss == "cross_entropy":
            return expected_cross_entropy(weights, target)
        if self.loss == "squared_error":
            return -expected_squared_error(weights, target)
        return -dirichlet_kl(weights, target, self.total)


def weight_targets(
    batch: FeatureBatch, loc: Float[Tensor, ""], scale: Float[Tensor, ""]
) -> tuple[Float[Tensor, "prompts objectives"], Bool[Tensor, " prompts"]]:
    """Return a target t on the simplex per prompt, and whether there is one.

    t is the mean over the prompt's rated responses of their ratings divided by their sum, a
    missing rating counting as 0. A normalised rating says how *good* a response is on an
    objective, not how much the objective matters, so this supervision has no causal
    justification. It is offered because it is closest to the reported method of the paper.

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


def expected_squared_error(weights: dist.Distribution, target: Tensor) -> Tensor:
    """Return E_q sum_k (w_k - t_k)^2, shape (P,).

    For q = Dir(alpha) with mean m it is sum_k (m_k - t_k)^2 + sum_k m_k (1 - m_k) / (alpha_0 + 1).
    """
    moments = weight_moments(weights)
    spread = moments.covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (moments.mean - target).square().sum(-1) + spread


def dirichlet_kl(weights: dist.Distribution, target: Tensor, total: float) -> Tensor:
    """Return KL(Dir(nu t) || q), shape (P,), with nu t floored like the concentrations of q.

    Without the floor, a share of 0 would make the divergence infinite for every q.

    Args:
        weights: q(w | .), a Dirichlet with batch (P,) and event (K,).
        target: t, shape (P, K).
        total: nu.

    Raises:
        InputError: If q(w) is no Dirichlet: only a Dirichlet has a closed form.
    """
    if not isinstance(weights, dist.Dirichlet):
        raise InputError(
            "model.weight_supervision is dirichlet_kl, which needs a Dirichlet q(w), but "
            f"model.guide gives a {type(weights).__name__}. Use LabelBlindGuide, or "
            "model.weight_supervision cross_entropy or squared_error."
        )
    wanted = dist.Dirichlet((total * target).clamp(min=CONCENTRATION_FLOOR))
    return kl_divergence(wanted, weights)

"""Losses of three objectives in plain torch: the reference for Pyro's overhead per training step.

They cover one setting: mode ``conditional`` on preferences only, with a linear reward.
``torch.distributions`` is used for draws only. The networks of a model are shared, but not its
program, guide class or objectives.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Dirichlet
from torch.nn.functional import logsigmoid, softplus

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.vrm import VRM

X, MASS = np.polynomial.hermite.hermgauss(32)
NODES = torch.tensor(X * math.sqrt(2), dtype=torch.float32)
MASSES = torch.tensor(MASS / math.sqrt(math.pi), dtype=torch.float32)


class HandWritten:
    """Loss of one batch, averaged over prompts.

    Args:
        model: Model that provides networks and parameters.
        objective: ``sampled``, ``integrated`` or ``pairwise``.
        num_draws: Draws of w (and z) per prompt.
        penalty: Weight of KL(p(w, z | x, y) || Dir(1) N(0, I)).
    """

    def __init__(self, model: VRM, objective: str, num_draws: int, penalty: float) -> None:
        self.to_alpha: Any = model.weight_prior.network
        self.to_normal: Any = model.feature_prior.network
        self.guide: Any = model.guide
        self.model, self.num_draws, self.penalty = model, num_draws, penalty
        self.loss = {
            "sampled": self.sampled,
            "integrated": self.integrated,
            "pairwise": self.pairwise,
        }[objective]

    def __call__(self, batch: FeatureBatch) -> Tensor:
        """Return the loss: minus the objective, plus the penalty, divided by the prompts."""
        prompts, responses = self.model.prompt_scaler, self.model.response_scaler
        alpha = self.to_alpha((batch.prompts - prompts.loc) / prompts.scale)
        loc, scale = self.to_normal((batch.responses - responses.loc) / responses.scale)
        loading = self.model.reward.loading
        beta = self.model.reward.log_scale.exp()
        loss = self.loss(batch, alpha, loc, scale, loading, beta)
        flat = dirichlet_kl(alpha, torch.ones_like(alpha)).sum()
        standard = 0.5 * (scale**2 + loc**2 - 1 - 2 * scale.log()).sum()
        return (loss + self.penalty * (flat + standard)) / batch.num_prompts

    def sampled(
        self,
        batch: FeatureBatch,
        alpha: Tensor,
        loc: Tensor,
        scale: Tensor,
        loading: Tensor,
        beta: Tensor,
    ) -> Tensor:
        """Draw w and z; KL in closed form."""
        q_alpha, q_loc, q_scale = self.posterior(batch, alpha, loc, scale, loading, beta)
        w = Dirichlet(q_alpha, validate_args=False).rsample(torch.Size([self.num_draws]))
        z = q_loc + q_scale * torch.randn(self.num_draws, *q_loc.shape)
        score = z @ loading.T + self.model.reward.intercept
        difference = score[:, batch.pair_first] - score[:, batch.pair_second]
        delta = beta * (w[:, batch.pair_prompt] * difference).sum(-1)
        log_prob = logsigmoid(delta) - (1 - batch.preference) * delta
        fit = (batch.pair_weight * log_prob).sum() / self.num_draws
        return kl(q_alpha, q_loc, q_scale, alpha, loc, scale) - fit

    def integrated(
        self,
        batch: FeatureBatch,
        alpha: Tensor,
        loc: Tensor,
        scale: Tensor,
        loading: Tensor,
        beta: Tensor,
        num_draws: int | None = None,
    ) -> Tensor:
        """Draw w and integrate over z."""
        q_alpha, q_loc, q_scale = self.posterior(batch, alpha, loc, scale, loading, beta)
        draws = num_draws or self.num_draws
        w = Dirichlet(q_alpha, validate_args=False).rsample(torch.Size([draws]))
        delta = self.quadrature_points(w, batch, q_loc, q_scale, loading, beta)
        log_prob = logsigmoid(delta) - (1 - batch.preference.unsqueeze(-1)) * delta
        fit = (batch.pair_weight * (log_prob * MASSES).sum(-1)).sum() / draws
        return kl(q_alpha, q_loc, q_scale, alpha, loc, scale) - fit

    def pairwise(
        self,
        batch: FeatureBatch,
        alpha: Tensor,
        loc: Tensor,
        scale: Tensor,
        loading: Tensor,
        beta: Tensor,
    ) -> Tensor:
        """Return each pair's marginal likelihood under the prior, plus the loss of the guide."""
        w = Dirichlet(alpha, validate_args=False).rsample(torch.Size([self.num_draws]))
        delta = self.quadrature_points(w, batch, loc, scale, loading, beta)
        log_prob = logsigmoid(delta) - (1 - batch.preference.unsqueeze(-1)) * delta
        per_draw = torch.logsumexp(log_prob + MASSES.log(), dim=-1)
        marginal = torch.logsumexp(per_draw, dim=0) - math.log(self.num_draws)
        held = (t.detach() for t in (alpha, loc, scale, loading, beta))
        guide = self.integrated(batch, *held, num_draws=1)
        return guide - guide.detach() - (batch.pair_weight * marginal).sum()

    def posterior(
        self,
        batch: FeatureBatch,
        alpha: Tensor,
        loc: Tensor,
        scale: Tensor,
        loading: Tensor,
        beta: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return concentration of q(w), loc and scale of q(z), given the preferences."""
        first, second, prompt = batch.pair_first, batch.pair_second, batch.pair_prompt
        sign = 2 * batch.preference - 1
        q_alpha = self.raised(batch, alpha, loc, scale, loading, beta)
        q_mean = q_alpha / q_alpha.sum(-1, keepdim=True)
        direction = beta * (q_mean @ loading)[prompt]
        margin = sign * (direction * (loc[first] - loc[second])).sum(-1)
        spread = (direction**2 * (scale[first] ** 2 + scale[second] ** 2)).sum(-1)
        site = softplus(self.guide.feature_site(torch.stack([margin.asinh(), spread.asinh()], -1)))
        slope = batch.pair_weight * sign * site[:, 0]
        curvature = batch.pair_weight * site[:, 1]
        outer = direction.unsqueeze(-1) * direction.unsqueeze(-2) * curvature[:, None, None]
        precision = torch.diag_embed(scale**-2)
        precision = precision.index_add(0, first, outer).index_add(0, second, outer)
        natural = scale**-2 * loc
        for side, rows in ((1.0, first), (-1.0, second)):
            centred = curvature * (direction * loc[rows]).sum(-1)
            natural = natural.index_add(
                0, rows, direction * (centred + side * slope).unsqueeze(-1)
            )
        q_loc = torch.linalg.solve(precision, natural.unsqueeze(-1)).squeeze(-1)
        return q_alpha, q_loc, precision.diagonal(dim1=-2, dim2=-1).rsqrt()

    def raised(
        self,
        batch: FeatureBatch,
        alpha: Tensor,
        loc: Tensor,
        scale: Tensor,
        loading: Tensor,
        beta: Tensor,
    ) -> Tensor:
        """Return the concentration of q(w): six damped Newton steps from the prior mean."""
        first, second, prompt = batch.pair_first, batch.pair_second, batch.pair_prompt
        total = alpha.sum(-1, keepdim=True)
        difference = beta * (loc[first] - loc[second]) @ loading.T
        mean = alpha / total
        direction = beta * (mean @ loading)[prompt]
        variance = scale[first] ** 2 + scale[second] ** 2
        spread = (direction**2 * variance).sum(-1, keepdim=True)
        shrink = torch.rsqrt(1 + torch.pi * spread / 8)
        gain, bend_gain = self.guide.weight_gains.exp()
        weight, label = batch.pair_weight.unsqueeze(-1), batch.preference.unsqueeze(-1)
        zero = torch.zeros_like(alpha)
        curvature = zero
        for _ in range(6):
            expected = (mean[prompt] * difference).sum(-1, keepdim=True)
            chance = torch.sigmoid(shrink * expected)
            slope = gain * weight * shrink * (label - chance) * difference
            bend = (shrink * (difference - expected)) ** 2 * weight * chance * (1 - chance)
            slope, bend = zero.index_add(0, prompt, slope), zero.index_add(0, prompt, bend)
            centred = mean * (slope - (mean * slope).sum(-1, keepdim=True))
            curvature = bend_gain * mean**2 * bend
            step = (alpha - total * mean + centred) / (total * mean + curvature + 1e-3)
            mean = torch.softmax(mean.log() + step.clamp(-1, 1), dim=-1)
        return (mean * (total + curvature.sum(-1, keepdim=True))).clamp(0.1, 1e4)

    def quadrature_points(
        self,
        w: Tensor,
        batch: FeatureBatch,
        loc: Tensor,
        scale: Tensor,
        loading: Tensor,
        beta: Tensor,
    ) -> Tensor:
        """Return the values of Delta at the nodes, shape (draws, pairs, nodes)."""
        first, second = batch.pair_first, batch.pair_second
        direction = w[:, batch.pair_prompt] @ loading
        mean = beta * (direction * (loc[first] - loc[second])).sum(-1)
        var = beta**2 * (direction**2 * (scale[first] ** 2 + scale[second] ** 2)).sum(-1)
        return mean.unsqueeze(-1) + var.sqrt().unsqueeze(-1) * NODES


def dirichlet_kl(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(Dir(p) || Dir(q)), one per row."""
    total = p.sum(-1)
    expected_log = torch.digamma(p) - torch.digamma(total).unsqueeze(-1)
    constant = torch.lgamma(total) - torch.lgamma(q.sum(-1))
    return constant + (torch.lgamma(q) - torch.lgamma(p) + (p - q) * expected_log).sum(-1)


def kl(
    q_alpha: Tensor, q_loc: Tensor, q_scale: Tensor, alpha: Tensor, loc: Tensor, scale: Tensor
) -> Tensor:
    """Return KL(q(w) q(z) || p(w) p(z)), summed."""
    ratio = (q_scale / scale) ** 2
    normal = 0.5 * (ratio + ((q_loc - loc) / scale) ** 2 - 1 - ratio.log()).sum()
    return dirichlet_kl(q_alpha, alpha).sum() + normal

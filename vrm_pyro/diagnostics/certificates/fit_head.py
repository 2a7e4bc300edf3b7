"""Fit a Gaussian Q over the head to the certifying rows by minimising a smooth bound."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.certificates.gaussian_head import GaussianHead, HeadParameters
from vrm_pyro.diagnostics.certificates.head_rule import Tick
from vrm_pyro.models.vrm import VRM

# Draws of w and z per probability of the surrogate loss; noise averages out over steps.
LATENT_DRAWS: Final = 16
BATCH_PROMPTS: Final = 256
# Keeps the log loss finite; 16 draws cannot resolve smaller probabilities.
PROBABILITY_FLOOR: Final = 1e-4


@dataclass(frozen=True)
class FitSettings:
    """Settings of the fit of Q. They do not affect validity: the bound holds for every Q.

    Args:
        steps: Adam steps.
        learning_rate: Learning rate of the mean (in units of s0) and of the log scale.
        seed: Seed of batches and draws.
    """

    steps: int = 300
    learning_rate: float = 0.05
    seed: int = 0


class _Deltas(nn.Module):
    """Draws of Delta for prediction, as the forward pass of ``functional_call``."""

    def __init__(self, model: VRM) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: FeatureBatch) -> Tensor:
        shape = torch.Size([LATENT_DRAWS])
        w = self.model.predictive_weights(batch.prompts).rsample(shape)
        z = self.model.predictive_features(batch.responses).rsample(shape)
        reward = self.model.reward()
        scores = reward.scores(z)
        return reward.delta(
            w[:, batch.pair_prompt], scores[:, batch.pair_first], scores[:, batch.pair_second]
        )


def surrogate_loss(
    model: VRM, parameters: HeadParameters, theta: Tensor, batch: FeatureBatch, loss: str
) -> Tensor:
    """Return a smooth loss of theta on a batch, averaged within prompts, then over prompts.

    For ``error``, it is the log loss in units of ln 2, an upper bound of the 0-1 error; for
    ``brier``, the Brier score. Draws of w and z are reparameterised, so layers of the prior
    networks in theta get a gradient too.
    """
    values = parameters.unflatten(theta, model.reward.intercept)
    named = {f"model.{name}": value for name, value in values.items()}
    delta = functional_call(_Deltas(model), named, (batch,))
    p = model.likelihood.probability(delta).mean(0)
    c = batch.preference
    if loss == "brier":
        pair = c * (1 - p) ** 2 + (1 - c) * p**2
    else:
        p = p.clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
        pair = -(c * p.log() + (1 - c) * torch.log1p(-p)) / math.log(2)
    zeros = pair.new_zeros(batch.num_prompts)
    mass = zeros.index_add(0, batch.pair_prompt, batch.pair_weight)
    sums = zeros.index_add(0, batch.pair_prompt, batch.pair_weight * pair)
    return (sums[mass > 0] / mass[mass > 0]).mean()


def smooth_bound(loss: Tensor, kl: Tensor, log_term: float, n: float) -> Tensor:
    """Return (sqrt(L + c/2) + sqrt(c/2))^2 with c = [KL + log_term] / n: above kl^-1(L, c).

    It follows from kl(q || p) >= (p - q)^2 / (2p) for q <= p, and has a gradient everywhere.
    """
    half = (kl + log_term) / (2 * n)
    return ((loss + half).sqrt() + half.sqrt()) ** 2


def fit_head(
    model: VRM,
    parameters: HeadParameters,
    prior_scale: float,
    source: FeatureSource,
    *,
    n: float,
    log_term: float,
    loss: str = "error",
    settings: FitSettings | None = None,
    tick: Tick = lambda count: None,
) -> GaussianHead:
    """Fit Q = N(theta_1, diag s^2) to minimise the bound on these rows.

    Adam starts at Q = P, in the coordinates of P, with one draw of theta per step.

    Args:
        model: A frozen copy (:func:`frozen_copy`).
        parameters: The parameters in theta; their trained values are the mean of P.
        prior_scale: s0 of P.
        source: Certifying rows; every prompt has a pair of positive weight.
        n: Units of the bound.
        log_term: ln(2 sqrt(n) G / delta) of the bound.
        loss: ``error`` or ``brier``.
        settings: Settings of the fit.
        tick: Called after each step.
    """
    settings = settings or FitSettings()
    dataset = PromptDataset(source)
    rng = np.random.default_rng(settings.seed)
    shift = torch.zeros(parameters.size, dtype=torch.float64, requires_grad=True)
    log_ratio = torch.zeros(parameters.size, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([shift, log_ratio], lr=settings.learning_rate)
    prior = GaussianHead.prior(parameters, prior_scale)

    def posterior() -> GaussianHead:
        loc = parameters.trained + prior_scale * shift
        return GaussianHead(loc, prior_scale * log_ratio.exp())

    size = min(BATCH_PROMPTS, len(dataset))
    dtype = model.reward.intercept.dtype
    whole = dataset.batch().to(dtype) if size == len(dataset) else None
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        generator = torch.Generator().manual_seed(settings.seed)
        for _ in range(settings.steps):
            batch = whole
            if batch is None:
                some = rng.choice(len(dataset), size, replace=False)
                batch = dataset.batch(some).to(dtype)
            q = posterior()
            risk = surrogate_loss(model, parameters, q.draw(generator), batch, loss)
            objective = smooth_bound(risk.double(), q.kl(prior), log_term, n)
            optimizer.zero_grad()
            objective.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            tick(1)
    fitted = posterior()
    return GaussianHead(fitted.loc.detach(), fitted.scale.detach())

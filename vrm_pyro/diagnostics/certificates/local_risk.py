"""Rhat(Q) and Rhat(P) of the local latent variables: sign errors of Delta at draws of w and z."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.certificates.bound import check_delta
from vrm_pyro.diagnostics.certificates.dependence import effective_units
from vrm_pyro.diagnostics.certificates.information_cost import information_cost
from vrm_pyro.diagnostics.certificates.local import (
    LocalCertificate,
    check_provenance,
    local_certificate,
)
from vrm_pyro.diagnostics.certificates.pac_bayes import monte_carlo_upper
from vrm_pyro.diagnostics.certificates.prompt_losses import prompt_means
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.evaluation import double_copy
from vrm_pyro.models.vrm import VRM

# Most elements in one tensor of draws of w and z.
_CHUNK_SIZE: Final = 4_000_000


@dataclass(frozen=True)
class LocalRisks:
    """Monte Carlo means over prompts and draws of the 0-1 loss of sign(Delta).

    Args:
        posterior: Rhat(Q).
        prior: Rhat(P).
        num_draws: Independent draws of every latent.
        num_prompts: Prompts.
    """

    posterior: float
    prior: float
    num_draws: int
    num_prompts: int


def local_risks(
    model: VRM, source: FeatureSource, num_draws: int = 1000, seed: int = 0
) -> LocalRisks:
    """Estimate E_q and E_p of the loss on the observed labels (spec 3.1).

    Args:
        model: A trained model.
        source: States and outcomes; every prompt has a pair of positive weight.
        num_draws: Draws of each w and z.
        seed: Seed of the draws; torch's global random state is not changed.
    """
    sums = np.zeros(2)
    count = 0
    with double_copy(model) as copied, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dataset = PromptDataset(source, float(copied.rating_loc), float(copied.rating_scale))
        width = num_draws * (copied.num_objectives + copied.latent_dim)
        limit = max(1, _CHUNK_SIZE // width)
        for chunk in chunks(dataset, max_pairs=limit, max_responses=limit):
            batch = copied.standardize(chunk.batch.to(torch.float64))
            conditionals = copied.conditionals(batch)
            weight, prompt = batch.pair_weight.numpy(), batch.pair_prompt.numpy()
            distributions = (
                copied.guide.posterior(batch, conditionals),
                (conditionals.weights, conditionals.features),
            )
            for block, (w, z) in enumerate(distributions):
                wrong = _wrong(w, z, conditionals, batch, num_draws).numpy()
                means = prompt_means(wrong, weight, prompt)
                sums[block] += means.sum()
            count += len(means)
    posterior, prior = (sums / count).clip(0, 1)
    return LocalRisks(float(posterior), float(prior), num_draws, count)


def _wrong(
    weights: torch.distributions.Distribution,
    features: torch.distributions.Distribution,
    conditionals: Conditionals,
    batch: FeatureBatch,
    num_draws: int,
) -> Tensor:
    """Return the share of draws whose sign(Delta) contradicts the label, shape (N,); ties 1/2."""
    shape = torch.Size([num_draws])
    w, scores = weights.sample(shape), conditionals.reward.scores(features.sample(shape))
    delta = conditionals.reward.delta(
        w[:, batch.pair_prompt], scores[:, batch.pair_first], scores[:, batch.pair_second]
    )
    for_first = (0.5 * (1 + delta.sign())).mean(0)
    return batch.preference * (1 - for_first) + (1 - batch.preference) * for_first


def certify_local(
    model: VRM,
    source: FeatureSource,
    *,
    fitted_on_disjoint_data: bool,
    delta: float = 0.05,
    delta_mc: float = 0.01,
    num_draws: int = 1000,
    seed: int = 0,
    chi: float = 1.0,
) -> LocalCertificate:
    """Return the fixed-design certificate of a model on rows (spec 3.1).

    The draws behind Rhat(Q) are independent across prompts, so its Monte Carlo correction uses
    draws times prompts.

    Args:
        model: A trained model.
        source: States and outcomes; every prompt has a pair of positive weight.
        fitted_on_disjoint_data: See :func:`local_certificate`.
        delta: Failure probability over the labels.
        delta_mc: Failure probability over the draws.
        num_draws: Draws of each w and z.
        seed: Seed of the draws.
        chi: See :func:`effective_units`.

    Raises:
        InputError: As :func:`local_certificate`.
    """
    check_provenance(fitted_on_disjoint_data)
    check_delta(delta=delta, delta_mc=delta_mc)
    risks = local_risks(model, source, num_draws, seed)
    cost = information_cost(model, source)
    return local_certificate(
        risks.posterior,
        risks.prior,
        cost.total,
        effective_units(risks.num_prompts, chi),
        delta,
        fitted_on_disjoint_data=fitted_on_disjoint_data,
        risk_upper=monte_carlo_upper(
            risks.posterior, risks.num_draws * risks.num_prompts, delta_mc
        ),
        delta_mc=delta_mc,
    )

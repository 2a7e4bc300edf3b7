"""Information cost (rate): KL(posterior || prior) of the local latent variables."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.metrics.pair_metrics import Estimate, cluster_mean
from vrm_pyro.models.ensemble import latent_members
from vrm_pyro.models.evaluation import double_copy
from vrm_pyro.models.objectives.base import kl_terms
from vrm_pyro.models.reward_model import RewardModel


@dataclass(frozen=True)
class InformationCost:
    """D(Q || P) of Theorem 5.1, for each block of latent variables.

    It measures the information that the labels add to the prior. It is not a bound: D / n does
    not shrink with n, and if the prior was trained on the same labels, it can be 0 for a model
    that memorised them (spec 3.2).

    Args:
        weights: KL(q(w | outcomes) || p(w)), nats per prompt, with a standard error.
        features: KL(q(z | outcomes) || p(z)), nats per response.
        total: D, nats, over all prompts and responses.
        num_prompts: Prompts n.
        num_responses: Responses.
    """

    weights: Estimate
    features: Estimate
    total: float
    num_prompts: int
    num_responses: int

    @property
    def per_prompt(self) -> float:
        """D / n, nats per prompt."""
        return self.total / self.num_prompts

    def to_json(self) -> dict[str, float | None]:
        """Return the numbers under the names that ``certify`` writes; None for unknown errors."""
        errors = (self.weights.standard_error, self.features.standard_error)
        weights_se, features_se = (float(e) if np.isfinite(e) else None for e in errors)
        return {
            "kl_weights_per_prompt": self.weights.value,
            "kl_weights_per_prompt_se": weights_se,
            "kl_features_per_response": self.features.value,
            "kl_features_per_response_se": features_se,
            "total": self.total,
            "total_per_prompt": self.per_prompt,
            "n_prompts": self.num_prompts,
            "n_responses": self.num_responses,
        }


def information_cost(model: RewardModel, source: FeatureSource) -> InformationCost:
    """Measure KL(q(w, z | texts, outcomes) || p(w, z | texts)) on rows.

    Args:
        model: A trained model with latent variables; of an ensemble, the mean over members.
        source: States and outcomes; ratings in raw units, of the model's objectives.
    """
    kl_w = np.zeros(source.prompts.shape[0])
    kl_z = np.zeros(source.responses.shape[0])
    with double_copy(model) as copied:
        dataset = PromptDataset(source, *copied.rating_unit)
        members = latent_members(copied)
        for chunk, member in itertools.product(list(chunks(dataset)), members):
            batch = member.standardize(chunk.batch.to(torch.float64))
            conditionals = member.conditionals(batch)
            weights, features = kl_terms(
                *member.guide.posterior(batch, conditionals), conditionals
            )
            kl_w[chunk.prompts] += weights.numpy() / len(members)
            kl_z[chunk.responses] += features.numpy() / len(members)
    prompts, responses = np.arange(len(kl_w)), np.asarray(source.response_prompt)
    return InformationCost(
        cluster_mean(kl_w, np.ones(len(kl_w)), prompts),
        cluster_mean(kl_z, np.ones(len(kl_z)), responses),
        float(kl_w.sum() + kl_z.sum()),
        len(kl_w),
        len(kl_z),
    )

"""Rewards beside the mean of their group, the responses to the same prompt."""

import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch


def centred(
    loc: Float[Tensor, "*draws responses"],
    variance: Float[Tensor, "*draws responses"],
    batch: FeatureBatch,
    share: Float[Tensor, " responses"],
) -> tuple[Float[Tensor, "*draws responses"], Float[Tensor, "*draws responses"]]:
    """Return mean and variance of r_i - sum_j p_j r_j, of independent rewards.

    Args:
        loc: Means of the rewards.
        variance: Their variances.
        batch: What they were computed from.
        share: p, adds up to 1 over the responses to a prompt.
    """
    common = _group_sums(share**2 * variance, batch)
    # (1 - p_i)^2 v_i + sum over j != i of p_j^2 v_j
    spread = ((1 - 2 * share) * variance + common).clamp(min=0)
    return loc - group_means(loc, batch, share), spread


def group_means(
    values: Float[Tensor, "*draws responses"],
    batch: FeatureBatch,
    share: Float[Tensor, " responses"],
) -> Float[Tensor, "*draws responses"]:
    """Return sum_j p_j v_j over the responses to the same prompt, for every response."""
    return _group_sums(share * values, batch)


def _group_sums(values: Tensor, batch: FeatureBatch) -> Tensor:
    owner = batch.response_prompt
    sums = values.new_zeros(*values.shape[:-1], batch.num_prompts)
    return sums.index_add_(-1, owner, values)[..., owner]


def shares(batch: FeatureBatch, counts: Tensor | None = None) -> Float[Tensor, " responses"]:
    """Return the share of each response in its group, from how often it stands there."""
    owner = batch.response_prompt
    counts = torch.ones(len(owner), device=owner.device) if counts is None else counts
    return counts / _group_sums(counts, batch)

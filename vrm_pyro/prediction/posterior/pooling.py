"""Draws of the members of an ensemble as draws of one distribution."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vrm_pyro.models.reward_model import interleaved
from vrm_pyro.prediction.posterior.variables import GROUPS

Groups = dict[str, dict[str, Tensor]]


def pooled(members: Sequence[Groups], num_draws: int) -> Groups:
    """Return the groups of the equal mixture of members (spec 2.9).

    Draws are pooled in turn. Log priors are centred member by member: each has its own unit of z,
    so that only differences within a member mean something. The evidence is the mean of the
    members'; ``evidence_gap`` and what else has no draws is the mean of the members' numbers.

    Args:
        members: Variables of :data:`GROUPS` of some rows, by group, for each member.
        num_draws: S, over all members.
    """
    if len(members) == 1:
        return members[0]
    found: Groups = {
        group: {
            name: interleaved(tuple(each[group][name] for each in members), num_draws)
            if GROUPS[group][name].sampled
            else torch.stack([each[group][name] for each in members]).mean(0)
            for name in variables
        }
        for group, variables in members[0].items()
    }
    found["log_prior"] = {
        name: interleaved(
            tuple(v - v.mean(0) for v in (each["log_prior"][name] for each in members)), num_draws
        )
        for name in found["log_prior"]
    }
    evidence, error = _mean_evidence(
        [each["log_likelihood"]["outcomes"] for each in members],
        [each["sample_stats"]["evidence_se"] for each in members],
    )
    found["log_likelihood"]["outcomes"] = evidence
    found["sample_stats"]["evidence_se"] = error
    return found


def _mean_evidence(
    log_prob: Sequence[Tensor], standard_error: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the log of the mean evidence, (P,), and its Monte Carlo error."""
    each = torch.stack(list(log_prob))
    share = each.softmax(0)  # d log mean / d log of each
    error = (share * torch.stack(list(standard_error))).square().sum(0).sqrt()
    return torch.logsumexp(each, 0) - math.log(len(each)), error

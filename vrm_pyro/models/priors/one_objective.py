"""The weight of a single objective: 1 for certain."""

import pyro.distributions as dist
from torch import Tensor, nn


class OneObjective(nn.Module):
    """p(w | x) of a model with one objective: a point mass at 1, the only point of the simplex.

    Source: spec 2.2. It takes the place of every weight prior when K = 1, and has no parameters.

    >>> import torch
    >>> p_w = OneObjective()(torch.zeros(2, 5))  # two prompts
    >>> p_w.mean.tolist(), p_w.log_prob(torch.ones(2, 1)).tolist()
    ([[1.0], [1.0]], [0.0, 0.0])
    """

    def forward(self, prompts: Tensor) -> dist.Delta:
        """Return the point mass for prompt states (P, hidden): batch (P,), event (1,)."""
        return dist.Delta(prompts.new_ones(*prompts.shape[:-1], 1), event_dim=1)

"""Logistic-normal prior over objective weights, the same for every prompt."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vrm_pyro.models.distributions import LogisticNormal
from vrm_pyro.models.networks import CorrelationFactor
from vrm_pyro.models.priors.base import WeightPrior, check_positive


@dataclass(frozen=True)
class LogisticNormalPrior(WeightPrior):
    """p(w): H' log w ~ N(loc, Sigma), H the orthonormal contrasts of objectives (spec 2.7).

    Args:
        scale: Standard deviation of every contrast of log w; the initial value if learned. 0.9 is
            close to a Dirichlet of concentration 2; 2 lets a few objectives dominate a prompt.
        learn: Learn loc and the full covariance from all prompts together (empirical Bayes).

    Raises:
        ValueError: If ``scale`` is not positive.

    >>> prior = LogisticNormalPrior(scale=0.9).build(hidden_size=5, num_objectives=3)
    >>> p_w = prior(torch.zeros(2, 5))  # two prompts
    >>> p_w.event_shape, p_w.base.stddev[0]
    (torch.Size([3]), tensor([0.9000, 0.9000]))
    """

    scale: float = 0.9
    learn: bool = False

    conditional: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(self, scale=self.scale)

    def build(self, hidden_size: int, num_objectives: int) -> nn.Module:
        """Return the module; it ignores the prompt state."""
        return _LogisticNormal(num_objectives - 1, self.scale, self.learn)


class _LogisticNormal(nn.Module):
    loc: Tensor
    log_scale: Tensor

    def __init__(self, size: int, scale: float, learn: bool) -> None:
        super().__init__()
        values = {"loc": torch.zeros(size), "log_scale": torch.full((size,), scale).log()}
        for name, value in values.items():
            if learn:
                setattr(self, name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        self.correlation = CorrelationFactor(size) if learn else None

    def forward(self, prompts: Tensor) -> LogisticNormal:
        scale = self.log_scale.exp()
        factor = torch.diag_embed(scale)
        if self.correlation is not None:
            factor = scale.unsqueeze(-1) * self.correlation()
        return LogisticNormal(self.loc.expand(*prompts.shape[:-1], -1), factor)

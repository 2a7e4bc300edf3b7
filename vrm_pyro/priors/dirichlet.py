"""Dirichlet prior over objective weights, the same for every prompt."""

from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from vrm_pyro.priors.base import WeightPrior, check_positive


@dataclass(frozen=True)
class DirichletPrior(WeightPrior):
    """Symmetric Dirichlet p(w) = Dir(concentration, ..., concentration) (spec 2.2, mode ``vib``).

    Args:
        concentration: Unitless, shared by all objectives. Below 1 a prompt is judged on a few
            objectives, above 1 on all of them about equally.

    Raises:
        ValueError: If ``concentration`` is not positive.
    """

    concentration: float = 1.0

    conditional: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(self, concentration=self.concentration)

    def build(self, hidden_size: int, num_objectives: int) -> nn.Module:
        """Return the module; it ignores the prompt state."""
        return _Dirichlet(self.concentration, num_objectives)


class _Dirichlet(nn.Module):
    concentration: Tensor

    def __init__(self, concentration: float, num_objectives: int) -> None:
        super().__init__()
        self.register_buffer("concentration", torch.full((num_objectives,), concentration))

    def forward(self, prompts: Tensor) -> dist.Dirichlet:
        return dist.Dirichlet(self.concentration.expand(*prompts.shape[:-1], -1))

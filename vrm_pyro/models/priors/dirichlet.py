"""Dirichlet prior over objective weights, the same for every prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from vrm_pyro.errors import InputError
from vrm_pyro.models.networks import CONCENTRATION_CAP, CONCENTRATION_FLOOR, inverse_softplus
from vrm_pyro.models.priors.base import WeightPrior, check_positive


@dataclass(frozen=True)
class DirichletPrior(WeightPrior):
    """p(w) = Dir(concentration), symmetric or per objective (spec 2.2).

    In mode ``vib`` it is the fixed reference. In mode ``conditional`` weights then vary around
    the same distribution for every prompt: the ablation of weights that follow the prompt.

    Args:
        concentration: Unitless, one number for all objectives or one for each. Below 1 a prompt
            is judged on a few objectives, above 1 on all of them about equally.
        learn: Learn it, one for each objective, from all prompts together (empirical Bayes);
            ``concentration`` is where it starts.

    Raises:
        ValueError: If ``concentration`` is not positive.

    >>> prior = DirichletPrior([2.0, 1.0, 1.0]).build(hidden_size=5, num_objectives=3)
    >>> prior(torch.zeros(4, 5)).mean[0]
    tensor([0.5000, 0.2500, 0.2500])
    """

    concentration: float | list[float] = 1.0
    learn: bool = False

    conditional: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for value in self._values():
            check_positive(self, concentration=value)
            if self.learn and value <= CONCENTRATION_FLOOR:
                raise ValueError(
                    f"DirichletPrior: concentration is {value}, but a learned one starts above "
                    f"its floor of {CONCENTRATION_FLOOR}."
                )

    def _values(self) -> Sequence[float]:
        if isinstance(self.concentration, int | float):
            return [self.concentration]
        return self.concentration

    def build(self, hidden_size: int, num_objectives: int) -> nn.Module:
        """Return the module; it ignores the prompt state.

        Raises:
            InputError: If ``concentration`` has not one number per objective.
        """
        values = self._values()
        if len(values) == 1:
            values = [values[0]] * num_objectives
        if len(values) != num_objectives:
            raise InputError(
                f"DirichletPrior: concentration has {len(values)} numbers for {num_objectives} "
                "objectives; give one for each, in their order, or one for all."
            )
        concentration = torch.tensor(values, dtype=torch.get_default_dtype())
        return _LearnedDirichlet(concentration) if self.learn else _Dirichlet(concentration)


class _Dirichlet(nn.Module):
    concentration: Tensor

    def __init__(self, concentration: Tensor) -> None:
        super().__init__()
        self.register_buffer("concentration", concentration)

    def forward(self, prompts: Tensor) -> dist.Dirichlet:
        return dist.Dirichlet(self.concentration.expand(*prompts.shape[:-1], -1))


class _LearnedDirichlet(nn.Module):
    def __init__(self, concentration: Tensor) -> None:
        super().__init__()
        raw = [inverse_softplus(float(value) - CONCENTRATION_FLOOR) for value in concentration]
        self.raw = nn.Parameter(torch.tensor(raw))

    def forward(self, prompts: Tensor) -> dist.Dirichlet:
        concentration = CONCENTRATION_FLOOR + softplus(self.raw)
        concentration = concentration.clamp(max=CONCENTRATION_CAP)
        return dist.Dirichlet(concentration.expand(*prompts.shape[:-1], -1))

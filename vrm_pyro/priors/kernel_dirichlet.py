"""Dirichlet prior whose concentration is smooth over prompts: a kernel regression."""

from dataclasses import dataclass
from typing import ClassVar, Final

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from vrm_pyro.networks import CONCENTRATION_FLOOR, concentration_from, inverse_softplus
from vrm_pyro.priors.base import FittedPrior, WeightPrior, check_positive

# Normalised kernel values sum to 1 over the centres; in these units a coefficient moves at the
# pace of a weight of the other networks, so one learning rate serves both.
_GAIN: Final = 100.0


@dataclass(frozen=True)
class KernelDirichletPrior(WeightPrior):
    """Conditional prior p(w | x) = Dir(alpha(h)), linear in normalised RBF features of h.

    Like :class:`ConditionalDirichletPrior`, but prompts that lie close together get like weights
    by construction. With few hundred prompts a network on the raw state learns each prompt's own
    pairs by heart; a kernel has to share them with the neighbours.

    phi_m(h) = softmax_m(-||u(h) - c_m||^2 / bandwidth), u the state scaled to length 1, the
    centres c_m training prompts, the bandwidth a quantile of the distances between them.

    Args:
        num_centres: Number of centres drawn from the training prompts (with repetition where
            there are fewer).
        quantile: Quantile of the squared distances between centres that is the bandwidth;
            smaller is more local.
        initial_concentration: Mean concentration per objective before training.

    Raises:
        ValueError: If a setting is out of range.
    """

    num_centres: int = 512
    quantile: float = 0.02
    initial_concentration: float = 2.0

    conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(
            self,
            num_centres=self.num_centres,
            quantile=self.quantile,
            initial_concentration=self.initial_concentration,
        )
        if self.quantile >= 1:
            raise ValueError(
                f"KernelDirichletPrior: quantile is {self.quantile}, but must lie in (0, 1)."
            )

    def build(self, hidden_size: int, num_objectives: int) -> nn.Module:
        """Return the module for prompt states of size ``hidden_size``."""
        return KernelDirichlet(hidden_size, num_objectives, self)


class KernelDirichlet(FittedPrior):
    """The module of :class:`KernelDirichletPrior`; call :meth:`fit_states` before training."""

    centres: Tensor
    bandwidth: Tensor

    def __init__(
        self, hidden_size: int, num_objectives: int, settings: KernelDirichletPrior
    ) -> None:
        super().__init__()
        self.quantile = settings.quantile
        # Enough to choose from, and bounded whatever the number of prompts.
        self.num_states = 4 * settings.num_centres
        self.register_buffer(
            "centres", nn.functional.normalize(torch.randn(settings.num_centres, hidden_size))
        )
        self.register_buffer("bandwidth", torch.ones(()))
        self.coefficients = nn.Linear(settings.num_centres, num_objectives + 1)
        nn.init.zeros_(self.coefficients.weight)
        nn.init.zeros_(self.coefficients.bias)
        self.offset = inverse_softplus(
            num_objectives * max(settings.initial_concentration - CONCENTRATION_FLOOR, 1e-3)
        )

    @torch.no_grad()
    def fit_states(self, states: Tensor) -> None:
        """Choose centres and bandwidth from standardised training prompts (P, hidden)."""
        states = states.to(self.centres.dtype)
        order = torch.randperm(len(states))
        rows = order[torch.arange(len(self.centres)) % len(states)]
        self.centres.copy_(nn.functional.normalize(states[rows]))
        distinct = self.centres[: min(len(states), len(self.centres))]
        distance = torch.cdist(distinct, distinct).square().flatten()
        rank = max(1, int(self.quantile * len(distance)))
        self.bandwidth.copy_(distance.kthvalue(rank).values.clamp(min=1e-3))

    def forward(self, prompts: Tensor) -> dist.Dirichlet:
        """Return p(w | x), batch (P,), event (K,), for standardised states."""
        # Of unit vectors: squared distance = 2 - 2 cosine; the 2 cancels in the softmax.
        cosine = nn.functional.normalize(prompts, dim=-1) @ self.centres.T
        kernel = _GAIN * torch.softmax(2 * cosine / self.bandwidth, dim=-1)
        out = self.coefficients(kernel)
        return dist.Dirichlet(concentration_from(out[..., :-1], out[..., -1:] + self.offset))

"""Dirichlet prior that follows the prompt only as far as the labels give evidence for it."""

import math
from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vrm_pyro.models.networks import CONCENTRATION_FLOOR, concentration_from, inverse_softplus
from vrm_pyro.models.priors.base import ShrinkagePrior, WeightPrior, check_positive

# Steps of the optimizer are about as large as its learning rate. With these factors, a few
# hundred steps at 1e-3 are enough to move each parameter as far as the evidence asks.
_MAP_GAIN = 10.0
_SCALE_GAIN = 30.0
# Number of prompts that place the directions.
_MOST_STATES = 4096


@dataclass(frozen=True)
class ShrinkageDirichletPrior(WeightPrior):
    """p(w | x) = Dir(alpha), alpha = 0.1 + c softmax(b + tau V phi(x)), shrunk to one shared w.

    Source: spec 2.2. phi(x) are the leading principal components of the prompt states. The map V
    has the prior N(0, 1) for each entry and a Gaussian posterior, and tau is learned: both by the
    bound, which charges KL(q(V) || p(V)) once for the data set (empirical Bayes). Where labels do
    not show that w depends on the prompt, tau goes to 0 and all prompts share w.

    A free network has no such limit: from a few hundred prompts it overfits to the pairs of each.

    Args:
        num_directions: Principal components; at most the number of training prompts is used.
        initial_scale: tau at the start: the standard deviation over prompts of a logit.
        initial_concentration: Mean concentration per objective before training.

    Raises:
        ValueError: If a setting is out of range.

    >>> prior = ShrinkageDirichletPrior().build(hidden_size=5, num_objectives=3)
    >>> prior.fit_states(torch.randn(40, 5))
    >>> p_w = prior(torch.zeros(4, 5))
    >>> p_w.batch_shape, p_w.event_shape
    (torch.Size([4]), torch.Size([3]))
    """

    num_directions: int = 128
    initial_scale: float = 0.3
    initial_concentration: float = 5.0

    conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(
            self,
            num_directions=self.num_directions,
            initial_scale=self.initial_scale,
            initial_concentration=self.initial_concentration,
        )

    def build(self, hidden_size: int, num_objectives: int) -> nn.Module:
        """Return the module for prompt states of size ``hidden_size``."""
        return ShrinkageDirichlet(hidden_size, num_objectives, self)


class ShrinkageDirichlet(ShrinkagePrior):
    """The module of :class:`ShrinkageDirichletPrior`; call :meth:`fit_states` before training.

    In training it draws the logits of every prompt under q(V); in evaluation mode it takes their
    mean. Source: spec 2.2.
    """

    directions: Tensor
    num_states = _MOST_STATES

    def __init__(
        self, hidden_size: int, num_objectives: int, settings: ShrinkageDirichletPrior
    ) -> None:
        super().__init__()
        size = min(settings.num_directions, hidden_size)
        self.register_buffer("directions", torch.eye(hidden_size)[:size] / math.sqrt(size))
        self.bias = nn.Parameter(torch.zeros(num_objectives))
        self.loc = nn.Parameter(torch.zeros(num_objectives, size))
        self.raw_scale = nn.Parameter(torch.zeros(num_objectives, size))
        self.raw_tau = nn.Parameter(torch.zeros(()))
        self.raw_total = nn.Parameter(torch.zeros(1))
        self.initial_scale = settings.initial_scale
        self.offset = inverse_softplus(
            num_objectives * max(settings.initial_concentration - CONCENTRATION_FLOOR, 1e-3)
        )

    def fit_states(
        self,
        states: Float[Tensor, "prompts hidden"],
        rated: Bool[Tensor, "prompts rated"] | None = None,
    ) -> None:
        """Place the directions: principal components of standardised states, E |phi|^2 = 1."""
        states = states.to(self.directions.dtype)
        _, values, vectors = torch.linalg.svd(states - states.mean(0), full_matrices=False)
        size = min(len(self.directions), int((values > 1e-6 * values.max()).sum()))
        norm = values[:size].square().sum().div(len(states)).sqrt()
        with torch.no_grad():
            self.directions.zero_()
            self.directions[:size] = vectors[:size] / norm

    @property
    def tau(self) -> Float[Tensor, ""]:
        """Learned scale of the map: 0 means that all prompts share w."""
        return self.initial_scale * torch.exp(_SCALE_GAIN * self.raw_tau)

    def forward(self, prompts: Tensor) -> dist.Dirichlet:
        """Return p(w | x), batch (P,), event (K,), for standardised states."""
        features = prompts @ self.directions.T
        logits = _MAP_GAIN * self.bias + self.tau * (features @ (_MAP_GAIN * self.loc).T)
        if self.training:
            # Draws of the logits instead of the map: less noise, the same distribution.
            scale = (features.square() @ self._scale.square().T + 1e-20).sqrt()
            logits = logits + self.tau * scale * torch.randn_like(scale)
        total = (_MAP_GAIN * self.raw_total + self.offset).expand(*logits.shape[:-1], 1)
        return dist.Dirichlet(concentration_from(logits, total))

    def divergence(self) -> Float[Tensor, ""]:
        """Return KL(q(V) || N(0, 1)) in nats for the whole data set."""
        loc, scale = _MAP_GAIN * self.loc, self._scale
        used = self.directions.any(dim=-1)
        return (0.5 * (loc.square() + scale.square() - 1) - scale.log())[:, used].sum()

    @property
    def _scale(self) -> Tensor:
        return torch.exp(_SCALE_GAIN * self.raw_scale)

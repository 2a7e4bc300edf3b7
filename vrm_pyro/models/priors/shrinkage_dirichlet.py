"""Dirichlet prior that follows the prompt only as far as the labels give evidence for it."""

from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vrm_pyro.models.networks import CONCENTRATION_FLOOR, concentration_from, inverse_softplus
from vrm_pyro.models.priors.base import FittedPrior, WeightPrior, check_positive
from vrm_pyro.models.priors.shrinkage import ShrinkageMap


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


class ShrinkageDirichlet(ShrinkageMap, FittedPrior):
    """The module of :class:`ShrinkageDirichletPrior`; call :meth:`fit_states` before training.

    In training it draws the logits of every prompt under q(V); in evaluation mode it takes their
    mean. Source: spec 2.2.
    """

    def __init__(
        self, hidden_size: int, num_objectives: int, settings: ShrinkageDirichletPrior
    ) -> None:
        super().__init__(
            hidden_size,
            num_objectives,
            settings.num_directions,
            settings.initial_scale,
            shared_scale=True,
        )
        self.bias = nn.Parameter(torch.zeros(num_objectives))
        self.raw_total = nn.Parameter(torch.zeros(1))
        self.offset = inverse_softplus(
            num_objectives * max(settings.initial_concentration - CONCENTRATION_FLOOR, 1e-3)
        )

    def fit_states(
        self,
        states: Float[Tensor, "prompts hidden"],
        rated: Bool[Tensor, "prompts rated"] | None = None,
    ) -> None:
        """Place the directions: principal components of standardised states, E |phi|^2 = 1."""
        self.place(states - states.mean(0))

    def forward(self, prompts: Tensor) -> dist.Dirichlet:
        """Return p(w | x), batch (P,), event (K,), for standardised states."""
        logits = self.gain * self.bias + self.mapped(self.components(prompts))
        total = (self.gain * self.raw_total + self.offset).expand(*logits.shape[:-1], 1)
        return dist.Dirichlet(concentration_from(logits, total))

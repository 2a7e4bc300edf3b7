"""A linear map from states with a Gaussian posterior and a learned prior scale."""

import math
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

# As ``gain``, for logarithms of scales.
SCALE_GAIN = 30.0


class ShrinkageMap(nn.Module):
    """Base class of prior modules that read states through tau V phi(h), shrunk by the evidence.

    phi(h) are principal components of the states. Each entry of V has the prior N(0, 1) and a
    Gaussian posterior q; tau is learned. The bound charges KL(q(V) || p(V)) once for the data set
    (empirical Bayes): where the data do not show that an output follows the state, its tau goes to
    0 and the output is the same for all. Source: spec 2.2.

    In training V is drawn, once for all states of a group, as their outputs are compared. In
    evaluation mode it is the mean of q, and :meth:`draw_map` draws it for predictions.

    Args:
        hidden_size: Size of the states.
        num_outputs: Outputs of the map.
        num_directions: Principal components; at most the number of states is used.
        initial_scale: tau at the start, the standard deviation of an output over states.
        initial_share: Standard deviation of q at the start.
        shared_scale: Whether all outputs have the same tau.
    """

    #: V is this times a parameter. Steps of the optimizer are about as large as its learning rate:
    #: with it, a few hundred steps at 1e-3 move V as far as the evidence asks.
    gain: ClassVar[float] = 10.0
    #: Maximum number of states that place the directions.
    num_states = 4096
    directions: Tensor

    def __init__(
        self,
        hidden_size: int,
        num_outputs: int,
        num_directions: int,
        initial_scale: float,
        initial_share: float = 1.0,
        shared_scale: bool = False,
    ) -> None:
        super().__init__()
        size = min(num_directions, hidden_size)
        self.register_buffer("directions", torch.eye(hidden_size)[:size] / math.sqrt(size))
        self.loc = nn.Parameter(torch.zeros(num_outputs, size))
        share = math.log(initial_share) / SCALE_GAIN
        self.raw_scale = nn.Parameter(torch.full((num_outputs, size), share))
        self.raw_tau = nn.Parameter(torch.zeros(() if shared_scale else num_outputs))
        self.initial_scale = initial_scale

    @property
    def tau(self) -> Float[Tensor, "*outputs"]:
        """Learned scale of the map, one for all outputs or one of each."""
        return self.initial_scale * torch.exp(SCALE_GAIN * self.raw_tau)

    def place(self, centred: Float[Tensor, "states hidden"]) -> None:
        """Set the directions to principal components of centred states, E |phi|^2 = 1."""
        centred = centred.to(self.directions.dtype)
        _, values, vectors = torch.linalg.svd(centred, full_matrices=False)
        size = min(len(self.directions), int((values > 1e-6 * values.max()).sum()))
        norm = values[:size].square().sum().div(len(centred)).sqrt()
        with torch.no_grad():
            self.directions.zero_()
            self.directions[:size] = vectors[:size] / norm

    def components(self, states: Float[Tensor, "states hidden"]) -> Float[Tensor, "states size"]:
        """Return phi(h)."""
        return states @ self.directions.T

    def mapped(
        self, phi: Float[Tensor, "states size"], groups: Int[Tensor, " states"] | None = None
    ) -> Float[Tensor, "states outputs"]:
        """Return tau V phi; in training with a draw of V of each group (of each state)."""
        out = phi @ (self.gain * self.loc).T
        if self.training:
            out = out + self._noise(phi, groups)
        return self.tau * out

    def _noise(self, phi: Tensor, groups: Tensor | None) -> Tensor:
        """Return (V - E V) phi with a draw of V for each group."""
        if groups is None:  # of each state: draws of the outputs have the same distribution
            scale = (phi.square() @ self._scale.square().T + 1e-20).sqrt()
            return scale * torch.randn_like(scale)
        order = groups.argsort(stable=True)
        sizes = groups.bincount()
        place = torch.arange(len(groups), device=groups.device)
        place = place - (sizes.cumsum(0) - sizes)[groups[order]]
        padded = phi.new_zeros(len(sizes), int(sizes.max()), phi.shape[1])
        padded[groups[order], place] = phi[order]
        drawn = self._scale.T * torch.randn(len(sizes), *self._scale.T.shape).to(phi)
        return (
            torch.zeros_like(phi[:, :1])
            .expand(-1, drawn.shape[2])
            .index_put((order,), (padded @ drawn)[groups[order], place])
        )

    def divergence(self) -> Float[Tensor, ""]:
        """Return KL(q(V) || N(0, 1)) in nats for the whole data set."""
        loc, scale = self.gain * self.loc, self._scale
        used = self.directions.any(dim=-1)
        return (0.5 * (loc.square() + scale.square() - 1) - scale.log())[:, used].sum()

    def draw_map(self, generator: torch.Generator | None = None) -> Float[Tensor, "outputs size"]:
        """Return a draw of the parameter ``loc`` under q, made on the CPU."""
        noise = torch.randn(self.loc.shape, generator=generator, dtype=torch.float64)
        return self.loc + self._scale * noise.to(self.loc) / self.gain

    @property
    def _scale(self) -> Float[Tensor, "outputs size"]:
        return torch.exp(SCALE_GAIN * self.raw_scale)

"""Small networks that map backbone states to distribution parameters."""

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from vrm_pyro.models.distributions import LogisticNormal

# Below 0.1, float32 draws of a Dirichlet are clamped at 1.2e-38, which biases every sampled KL.
# Above 1e4, its KL loses all digits in float32.
CONCENTRATION_FLOOR: Final = 0.1
CONCENTRATION_CAP: Final = 1.0e4
SCALE_FLOOR: Final = 1.0e-3


def inverse_softplus(value: float) -> float:
    """Return the x with softplus(x) = ``value`` > 0."""
    # log(exp(value) - 1) without the exponential, which overflows above 709.
    return value + math.log(-math.expm1(-value))


class Standardize(nn.Module):
    """Shift and scale each input dimension by statistics of the training set.

    The statistics are buffers: saved in the checkpoint, never optimised.

    Args:
        size: Number of input dimensions.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Set mean and standard deviation of the training states, each (size,)."""
        self.loc.copy_(mean)
        # A constant dimension carries no information: scale 1 maps it to zero.
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    def forward(self, states: Tensor) -> Tensor:
        """Return standardised states in the dtype of the statistics (float32 at least)."""
        return (states.to(self.loc.dtype) - self.loc) / self.scale


def mlp(
    in_size: int, hidden_size: int, out_size: int, dropout: float = 0.0, out_gain: float = 1.0
) -> nn.Sequential:
    """Return one hidden layer of SiLU units, or a linear map when ``hidden_size`` is 0.

    Args:
        in_size: Input dimensions.
        hidden_size: Width of the hidden layer; 0 for none.
        out_size: Output dimensions.
        dropout: Probability of dropping an input of the last layer.
        out_gain: Factor on the initial weights of the last layer; small values start the
            network near a constant.
    """
    last = nn.Linear(hidden_size or in_size, out_size)
    with torch.no_grad():
        last.weight.mul_(out_gain)
        last.bias.zero_()
    if not hidden_size:
        return nn.Sequential(nn.Dropout(dropout), last)
    return nn.Sequential(nn.Linear(in_size, hidden_size), nn.SiLU(), nn.Dropout(dropout), last)


def concentration_from(logits: Tensor, raw_total: Tensor) -> Tensor:
    """Return alpha = floor + softplus(raw_total) * softmax(logits), capped (spec 2.7).

    Mean and total concentration are separate outputs, so training can reduce the variance of w
    without changing its mean. The result lies in [floor, cap] for any input.

    Args:
        logits: Shape (..., K).
        raw_total: Shape (..., 1).
    """
    total = softplus(raw_total)
    alpha = CONCENTRATION_FLOOR + total * torch.softmax(logits, dim=-1)
    return alpha.clamp(max=CONCENTRATION_CAP)


def scale_from(raw: Tensor) -> Tensor:
    """Return floor + softplus(raw): a standard deviation bounded away from zero (spec 2.7)."""
    return SCALE_FLOOR + softplus(raw)


class DirichletNetwork(nn.Module):
    """Map states to concentrations of a Dirichlet over objective weights (spec 2.2, 2.7).

    Args:
        in_size: Size of the prompt state.
        num_objectives: K.
        hidden_size: Hidden units; 0 for a linear map.
        dropout: Dropout before the last layer.
        initial_concentration: Mean concentration per objective at the start.
    """

    def __init__(
        self,
        in_size: int,
        num_objectives: int,
        hidden_size: int,
        dropout: float,
        initial_concentration: float,
    ) -> None:
        super().__init__()
        self.body = mlp(in_size, hidden_size, num_objectives + 1, dropout, out_gain=0.3)
        # Per objective, above the floor: total = K * (initial - floor).
        self.offset = inverse_softplus(
            num_objectives * max(initial_concentration - CONCENTRATION_FLOOR, 1e-3)
        )

    def forward(self, states: Tensor) -> Tensor:
        """Return concentrations, shape (..., K), for standardised states (..., in_size)."""
        out = self.body(states)
        return concentration_from(out[..., :-1], out[..., -1:] + self.offset)


class NormalNetwork(nn.Module):
    """Map states to loc and scale of a diagonal Normal over semantic features (spec 2.2, 2.7).

    Args:
        in_size: Size of the response state.
        latent_dim: Number of features d_z.
        hidden_size: Hidden units; 0 for a linear map.
        dropout: Dropout before the last layer.
        initial_scale: Standard deviation at the start.
        learn_scale: Whether the standard deviation is an output; else it stays ``initial_scale``.
    """

    def __init__(
        self,
        in_size: int,
        latent_dim: int,
        hidden_size: int,
        dropout: float,
        initial_scale: float,
        learn_scale: bool = True,
    ) -> None:
        super().__init__()
        self.learn_scale = learn_scale
        self.body = mlp(in_size, hidden_size, (2 if learn_scale else 1) * latent_dim, dropout)
        self.offset = inverse_softplus(max(initial_scale - SCALE_FLOOR, 1e-4))

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return loc and scale, each (..., d_z), for standardised states (..., in_size)."""
        if not self.learn_scale:
            loc = self.body(states)
            return loc, scale_from(torch.full_like(loc, self.offset))
        loc, raw = self.body(states).chunk(2, dim=-1)
        return loc, scale_from(raw + self.offset)


class LogisticNormalNetwork(nn.Module):
    """Map states to a logistic-normal with full covariance over objective weights (spec 2.2).

    The network outputs loc and one scale per contrast of log weights. All prompts share one
    learned correlation matrix, because the few pairs of a prompt cannot identify their own.

    Args:
        in_size: Size of the prompt state.
        num_objectives: K.
        hidden_size: Hidden units; 0 for a linear map.
        dropout: Dropout before the last layer.
        initial_scale: Standard deviation of each contrast of log weights at the start.
    """

    def __init__(
        self,
        in_size: int,
        num_objectives: int,
        hidden_size: int,
        dropout: float,
        initial_scale: float,
    ) -> None:
        super().__init__()
        size = num_objectives - 1
        self.body = mlp(in_size, hidden_size, 2 * size, dropout, out_gain=0.3)
        self.correlation = CorrelationFactor(size)
        self.offset = inverse_softplus(max(initial_scale - SCALE_FLOOR, 1e-4))

    def forward(self, states: Tensor) -> LogisticNormal:
        """Return the distribution for standardised states (..., in_size)."""
        loc, raw = self.body(states).chunk(2, dim=-1)
        return LogisticNormal(
            loc, scale_from(raw + self.offset).unsqueeze(-1) * self.correlation()
        )


class CorrelationFactor(nn.Module):
    """Learned lower Cholesky factor L of a correlation matrix R = L L', shape (d, d) (spec 2.2).

    Training starts at R = I.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.below = nn.Parameter(torch.zeros(size * (size - 1) // 2))
        self.register_buffer("rows", torch.tril_indices(size, size, -1), persistent=False)

    def forward(self) -> Tensor:
        """Return L: unit diagonal and free entries below, each row scaled to length 1."""
        factor = torch.eye(self.size, dtype=self.below.dtype, device=self.below.device)
        rows = self.get_buffer("rows")
        factor = factor.index_put((rows[0], rows[1]), self.below)
        return factor / factor.norm(dim=-1, keepdim=True)

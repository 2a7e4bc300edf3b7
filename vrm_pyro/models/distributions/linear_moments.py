"""Means over nodes of w, corrected by the exact moments of a linear function of w."""

from functools import singledispatch
from itertools import accumulate, repeat
from operator import mul
from typing import Any, Final, NamedTuple

import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from torch import Tensor

#: Powers of w'd whose exact means correct a mean over nodes.
DEGREE: Final = 5


class LinearMoments(NamedTuple):
    """Moments of t = w'd, one d a row.

    Attributes:
        loc: E t, shape (N,).
        scale: Standard deviation of t, shape (N,).
        powers: E x^j of x = (t - loc) / scale, j = 1 .. J, shape (N, J), float64.
    """

    loc: Float[Tensor, " rows"]
    scale: Float[Tensor, " rows"]
    powers: Float[Tensor, "rows powers"]


@singledispatch
def linear_moments(
    distribution: Any,
    prompt: Int[Tensor, " rows"],
    direction: Float[Tensor, "rows objectives"],
    degree: int = DEGREE,
) -> LinearMoments | None:
    """Return the moments of w'd in closed form; None where the family has none.

    For a Dirichlet, E (w'e)^n = n! / (alpha_0)_n h_n, where h_n is the coefficient of s^n in
    prod_k (1 - e_k s)^(-alpha_k): n h_n = sum_j p_j h_(n-j) with p_j = sum_k alpha_k e_k^j
    (spec 2.9).

    >>> uniform = dist.Dirichlet(torch.ones(1, 2))  # of w_1
    >>> linear_moments(uniform, torch.tensor([0]), torch.tensor([[1.0, 0.0]]), 4).powers
    tensor([[0.0000, 1.0000, 0.0000, 1.8000]], dtype=torch.float64)

    Args:
        distribution: Distribution of w, batch (P,), event (K,).
        prompt: Row of the distribution for each d.
        direction: d.
        degree: J.
    """
    return None


@linear_moments.register
def _(
    distribution: dist.Dirichlet,
    prompt: Int[Tensor, " rows"],
    direction: Float[Tensor, "rows objectives"],
    degree: int = DEGREE,
) -> LinearMoments:
    alpha, gap = distribution.concentration[prompt].double(), direction.double()
    total = alpha.sum(-1)
    mean = alpha / total.unsqueeze(-1)
    loc = (mean * gap).sum(-1)
    # w sums to 1, so a shift of d is one of t.
    centred = gap - loc.unsqueeze(-1)
    variance = (mean * centred**2).sum(-1) / (total + 1)
    # Below this, w'd at the nodes is rounding.
    least = 1e-4 * gap.abs().amax(-1) + torch.finfo(direction.dtype).tiny
    scale = torch.maximum(variance.sqrt(), least)
    unit = centred / scale.unsqueeze(-1)
    sums = [power.sum(-1) for power in accumulate(repeat(unit, degree), mul, initial=alpha)][1:]
    coefficients, factor, powers = [torch.ones_like(loc)], torch.ones_like(loc), []
    for n in range(1, degree + 1):
        terms = [sums[j - 1] * coefficients[n - j] for j in range(1, n + 1)]
        coefficients.append(torch.stack(terms).sum(0) / n)
        factor = factor * n / (total + n - 1)
        powers.append(factor * coefficients[n])
    loc, scale = loc.to(direction), scale.to(direction)
    return LinearMoments(loc, scale, torch.stack(powers, -1))


def controlled_mean(
    values: Float[Tensor, "rows draws"],
    linear: Float[Tensor, "rows draws"],
    moments: LinearMoments,
) -> Float[Tensor, " rows"]:
    """Return the mean of f over nodes of w, with powers of w'd as control variates.

    f is regressed on the powers over the nodes, and what the nodes get wrong of the powers' means
    is taken off: exact where f is a polynomial of w'd of their degree.

    >>> w = torch.tensor([[0.1, 0.4, 0.9]])  # poor nodes of a uniform w_1
    >>> first = torch.tensor([0]), torch.tensor([[1.0, 0.0]])
    >>> uniform = linear_moments(dist.Dirichlet(torch.ones(1, 2)), *first, 2)
    >>> controlled_mean(w**2, w, uniform)
    tensor([0.3333])

    Args:
        values: f at the nodes.
        linear: w'd at the nodes.
        moments: From :func:`linear_moments`.
    """
    x = (linear - moments.loc.unsqueeze(-1)) / moments.scale.unsqueeze(-1)
    powers = accumulate(repeat(x, moments.powers.shape[-1]), mul)
    columns = torch.stack([*powers, values], -2)
    means = columns.mean(-1).double()
    products = (columns @ columns.mT).double() / values.shape[-1]
    covariance = products - means.unsqueeze(-1) * means.unsqueeze(-2)
    # Correlations, with a ridge for fewer distinct nodes than powers.
    unit = covariance.diagonal(dim1=-2, dim2=-1)[..., :-1].clamp(min=1e-30).rsqrt()
    gram = covariance[..., :-1, :-1] * unit.unsqueeze(-1) * unit.unsqueeze(-2)
    gram = gram + 1e-6 * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    slopes = unit * torch.linalg.solve(gram, unit * covariance[..., :-1, -1])
    off = (slopes * (means[..., :-1] - moments.powers)).sum(-1)
    return (means[..., -1] - off).to(values)

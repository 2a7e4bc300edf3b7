"""Gauss-Hermite quadrature for expectations under a one-dimensional Normal."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

# The error of E log sigmoid with 32 nodes: 3e-8 for variances up to 4, 6e-3 at 64 (spec 2.6).
NUM_NODES: Final = 32


@lru_cache(maxsize=16)
def _hermite(num_nodes: int) -> tuple[Tensor, Tensor]:
    x, weight = np.polynomial.hermite.hermgauss(num_nodes)
    return torch.from_numpy(x * math.sqrt(2)), torch.from_numpy(weight / math.sqrt(math.pi))


def hermite_nodes(like: Tensor, num_nodes: int = NUM_NODES) -> tuple[Tensor, Tensor]:
    """Return standard Normal nodes and weights, each (num_nodes,), dtype and device of ``like``.

    The weights sum to 1: E f(x) for x ~ N(0, 1) is ``(weights * f(nodes)).sum()``.
    """
    nodes, weights = _hermite(num_nodes)
    return nodes.to(like), weights.to(like)


def expect_normal(
    function: Callable[[Tensor], Tensor],
    loc: Tensor,
    variance: Tensor,
    num_nodes: int = NUM_NODES,
) -> Tensor:
    """Return E function(x) for x ~ N(loc, variance), elementwise.

    Args:
        function: Applied to a tensor with an additional last dimension of nodes.
        loc: Mean, any shape.
        variance: Variance, same shape as ``loc``.
        num_nodes: Number of quadrature nodes.

    >>> expect_normal(torch.square, torch.tensor(1.0), torch.tensor(4.0))  # mean^2 + variance
    tensor(5.0000)
    """
    nodes, weights = hermite_nodes(loc, num_nodes)
    scale = root(variance).unsqueeze(-1)
    return (function(loc.unsqueeze(-1) + scale * nodes) * weights).sum(-1)


def root(variance: Tensor) -> Tensor:
    """Return the standard deviation; its gradient stays finite at a variance of zero."""
    return variance.clamp(min=torch.finfo(variance.dtype).tiny).sqrt()

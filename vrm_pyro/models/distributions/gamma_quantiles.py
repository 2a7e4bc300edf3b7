"""Quantiles of Gamma(alpha, 1) at equally spaced probabilities, by a table over alpha."""

from functools import lru_cache
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

# Knots of log alpha. Cubic interpolation between them leaves an error of 1e-6 in log gamma.
_STEP: Final = 1 / 16
_LOWEST: Final = np.log(1e-4)
_NUM_KNOTS: Final = 664  # up to 1e14


class _Table:
    """h(alpha) log quantile at the knots, each row filled when it is first needed.

    The inverse distribution function takes a microsecond for each value, so the nodes of a prompt
    would cost more than all that is computed from them. h = alpha / (1 + alpha) makes the table
    smooth down to small alpha, where log quantiles grow as 1 / alpha.
    """

    def __init__(self, num_points: int) -> None:
        self.points = (np.arange(num_points) + 0.5) / num_points
        self.values = np.empty((_NUM_KNOTS, num_points))
        self.known = np.zeros(_NUM_KNOTS, dtype=bool)

    def rows(self, knots: Tensor) -> Tensor:
        """Return the rows of some knots, float64, with a last dimension of points."""
        wanted = np.unique(knots.numpy())
        missing = wanted[~self.known[wanted]]
        if len(missing):
            alpha = np.exp(_LOWEST + _STEP * missing)[:, None]
            self.values[missing] = alpha / (1 + alpha) * _log_quantiles(alpha, self.points)
            self.known[missing] = True  # last: another thread may look
        return torch.from_numpy(self.values)[knots]


def _log_quantiles(alpha: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import gammaincinv, gammaln  # here, not above: it is slow to import

    found = gammaincinv(alpha, points)
    # Near 0 the distribution function is x^alpha / Gamma(alpha + 1); floats end at 1e-308.
    near = (np.log(points) + gammaln(alpha + 1)) / alpha
    return np.where(found > 1e-200, np.log(np.maximum(found, 1e-300)), near)


@lru_cache(maxsize=16)
def _table(num_points: int) -> _Table:
    return _Table(num_points)


def log_gamma_quantiles(
    concentration: Float[Tensor, "*shape"], num_points: int
) -> Float[Tensor, "*shape points"]:
    """Return log of the quantiles at (j + 1/2) / S, j = 0 .. S - 1, rising.

    Differentiable in the concentration: the slope is that of a draw at a fixed probability.

    >>> log_gamma_quantiles(torch.tensor(1.0), 1).exp()  # the median of an exponential: log 2
    tensor([0.6931])

    Args:
        concentration: alpha > 0.
        num_points: S.
    """
    place = (concentration.log() - _LOWEST) / _STEP
    # No knot of a diverged model is one; its quantiles are NaN by t.
    knot = place.detach().floor().nan_to_num(1.0).clamp(1, _NUM_KNOTS - 3)
    t = (place - knot).unsqueeze(-1)
    # Lagrange's cubic through the knots at -1, 0, 1 and 2.
    shares = (
        -t * (t - 1) * (t - 2) / 6,
        (t + 1) * (t - 1) * (t - 2) / 2,
        -(t + 1) * t * (t - 2) / 2,
        (t + 1) * t * (t - 1) / 6,
    )
    table, first = _table(num_points), knot.long().cpu() - 1
    parts = [share * table.rows(first + i).to(concentration) for i, share in enumerate(shares)]
    scale = (1 + concentration) / concentration
    return scale.unsqueeze(-1) * (parts[0] + parts[1] + parts[2] + parts[3])

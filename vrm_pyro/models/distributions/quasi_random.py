"""Fixed quasi-random points: the same for every distribution and call."""

import warnings
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SEED: Final = 20260304


@lru_cache(maxsize=32)
def ranks(num_draws: int, dimensions: int) -> NDArray[np.int64]:
    """Return the order of scrambled Sobol points in each dimension, 0 .. S - 1, (S, dimensions).

    The point (rank + 1/2) / S keeps the balance of the net, and each of its coordinates takes the
    same S values: what is computed of single coordinates is computed once. A power of 2 is
    balanced best; SciPy warns of other numbers, which serve as well as their part of the next
    power does.
    """
    from scipy.stats import qmc  # here, not above: it takes a second to import

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The balance properties of Sobol", UserWarning)
        points = qmc.Sobol(dimensions, scramble=True, rng=SEED).random(num_draws)
    order: NDArray[np.int64] = points.argsort(0, kind="stable").argsort(0)
    return order


def normals(num_draws: int, dimensions: int, like: Tensor) -> Tensor:
    """Return the points of :func:`ranks` as standard Normal ones, in dtype and device of ``like``.

    Their mean is 0 and their covariance the identity, so functions of second order have no error.
    """
    return torch.from_numpy(_normals(num_draws, dimensions)).to(like)


@lru_cache(maxsize=32)
def _normals(num_draws: int, dimensions: int) -> NDArray[np.float64]:
    from scipy.special import ndtri

    points: NDArray[np.float64] = ndtri((ranks(num_draws, dimensions) + 0.5) / num_draws)
    if num_draws <= dimensions:  # too few to have a covariance of full rank
        return points
    points = points - points.mean(0)
    factor = np.linalg.cholesky(points.T @ points / num_draws)
    return np.linalg.solve(factor, points.T).T.copy()

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
def uniforms(num_draws: int, dimensions: int) -> NDArray[np.float64]:
    """Return scrambled Sobol points in the open unit cube, shape (S, dimensions).

    A power of 2 of them is balanced best; SciPy warns of other numbers, which serve as well as
    their part of the next power does.
    """
    from scipy.stats import qmc  # here, not above: it takes a second to import

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The balance properties of Sobol", UserWarning)
        points = qmc.Sobol(dimensions, scramble=True, rng=SEED).random(num_draws)
    return np.clip(points, 1e-9, 1 - 1e-9)


def normals(num_draws: int, dimensions: int, like: Tensor) -> Tensor:
    """Return the same points as standard Normal ones, in dtype and device of ``like``.

    Their mean is 0 and their covariance the identity, so functions of second order have no error.
    """
    return torch.from_numpy(_normals(num_draws, dimensions)).to(like)


@lru_cache(maxsize=32)
def _normals(num_draws: int, dimensions: int) -> NDArray[np.float64]:
    from scipy.special import ndtri

    points: NDArray[np.float64] = ndtri(uniforms(num_draws, dimensions))
    if num_draws <= dimensions:  # too few to have a covariance of full rank
        return points
    points = points - points.mean(0)
    factor = np.linalg.cholesky(points.T @ points / num_draws)
    return np.linalg.solve(factor, points.T).T.copy()

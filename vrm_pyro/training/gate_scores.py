"""Fit the scores of a gate: a ridge regression of each objective's ratings on the states."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.data.source import FeatureSource
from vrm_pyro.models.gate import GateModel

PENALTIES: Final = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
_ROWS: Final = 8192


def fit_gate_scores(model: GateModel, source: FeatureSource) -> list[float]:
    """Set the ridge regressions from the training ratings; return the penalty of each objective.

    Minimises |y - c - X b|^2 + penalty |b|^2 over standardised states, y in standardised rating
    units, with the penalty of the least generalised cross-validation error. States are read in
    slices; an objective without ratings has score 0.

    Args:
        model: A model whose input scalers and rating unit are set.
        source: Training states and raw ratings.
    """
    loc, scale = model.rating_unit
    ratings = (np.asarray(source.ratings, dtype=np.float64) - loc) / scale
    chosen = []
    for k in range(model.num_objectives):
        rows = np.flatnonzero(~np.isnan(ratings[:, k]))
        if len(rows) < 2:
            chosen.append(PENALTIES[-1])
            continue
        slope, level, penalty = _ridge(model, source, rows, ratings[rows, k])
        model.ridge[k] = torch.from_numpy(slope)
        model.offset[k] = level
        chosen.append(penalty)
    return chosen


def _ridge(
    model: GateModel, source: FeatureSource, rows: NDArray[np.int64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, float]:
    """Return slopes, intercept and penalty of one objective."""
    size = model.ridge.shape[1]
    gram, product, total = np.zeros((size, size)), np.zeros(size), np.zeros(size)
    centred = y - y.mean()
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        states = np.asarray(source.responses[rows[part]], dtype=np.float32)
        x = model.response_scaler(torch.from_numpy(states)).double().numpy()
        gram += x.T @ x
        product += x.T @ centred[part]
        total += x.sum(0)
    mean = total / len(rows)
    values, vectors = np.linalg.eigh(gram - len(rows) * np.outer(mean, mean))
    values, inner = np.maximum(values, 0), vectors.T @ product
    errors = []
    for penalty in PENALTIES:
        shrunk = 1 / (values + penalty)
        # |y - X b|^2 with b = V diag(shrunk) V'X'y, from the normal equations alone
        residual = centred @ centred - (inner**2 * shrunk * (2 - values * shrunk)).sum()
        freedom = 1 + (values * shrunk).sum()
        errors.append(residual / max(len(rows) - freedom, 1e-9) ** 2)
    penalty = PENALTIES[int(np.argmin(errors))]
    slope = vectors @ (inner / (values + penalty))
    return slope, float(y.mean() - mean @ slope), penalty

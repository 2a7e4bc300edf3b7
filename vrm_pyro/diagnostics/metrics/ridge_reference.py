"""Ridge regression of ratings on states: the reference for predicted scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4)


def ridge_ratings(
    train: tuple[Floats, Floats],
    validation: tuple[Floats, Floats],
    states: Floats,
    penalties: Sequence[float] = PENALTIES,
) -> Floats:
    """Return predicted ratings, each objective by its own ridge regression, shape (R, K).

    NaN for an objective without any training or validation rating.

    Minimises |y - c - X b|^2 + penalty |b|^2 over standardised states. The penalty of an
    objective is the one with the least squared error on the validation ratings.

    Args:
        train: States (rows, hidden) and ratings (rows, K), NaN where missing.
        validation: The same of other prompts.
        states: What to predict for, (R, hidden).
        penalties: Penalties to choose from, in the unit of one row's squared error.
    """
    mean, scale = train[0].mean(0), train[0].std(0)
    scale = np.where(scale > 0, scale, 1.0)
    x, held, wanted = ((np.asarray(s) - mean) / scale for s in (train[0], validation[0], states))
    columns = []
    for k in range(train[1].shape[1]):
        seen, held_seen = ~np.isnan(train[1][:, k]), ~np.isnan(validation[1][:, k])
        if not seen.any() or not held_seen.any():
            columns.append(np.full(len(wanted), np.nan))
            continue
        y, target = train[1][seen, k], validation[1][held_seen, k]
        centre, level = x[seen].mean(0), y.mean()
        # One decomposition serves all penalties: b = V diag(d / (d^2 + penalty)) U'y.
        left, d, right = np.linalg.svd(x[seen] - centre, full_matrices=False)
        inner = left.T @ (y - level)
        fits = [right.T @ (d / (d**2 + penalty) * inner) for penalty in penalties]
        losses = [((target - level - (held[held_seen] - centre) @ b) ** 2).mean() for b in fits]
        columns.append(level + (wanted - centre) @ fits[int(np.argmin(losses))])
    return np.column_stack(columns)

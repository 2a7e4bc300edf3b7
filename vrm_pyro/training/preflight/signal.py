"""Check that backbone states predict held-out labels, with the right sign."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.metrics.pair_metrics import Estimate, accuracy
from vrm_pyro.training.preflight.check import Check
from vrm_pyro.training.preflight.labels import percent

MOST_PAIRS: Final = 2000


class _Pairs(NamedTuple):
    """Differences of states, labels, weights and prompts of pairs, one row each."""

    states: NDArray[Any]
    label: NDArray[Any]
    weight: NDArray[Any]
    prompt: NDArray[Any]

    def select(self, mask: NDArray[Any]) -> "_Pairs":
        return _Pairs(*(values[mask] for values in self))


def held_out_accuracy(
    train: FeatureSource, validation: FeatureSource | None = None, seed: int = 0
) -> tuple[Estimate, int]:
    """Return the accuracy of a ridge classifier on held-out pairs, and their number.

    It is linear in the difference of the two response states, without an intercept, so it cannot
    use the position of a response.

    Args:
        train: States and labels to fit on.
        validation: States and labels to predict. Default: half of the prompts of ``train``. One
            split, not cross-validation: rates of folds are correlated, so their standard error
            would be too small.
        seed: Seed of the split and, for large data, of the sample of pairs.
    """
    rng = np.random.default_rng(seed)
    fitted = _pairs(train, rng)
    if validation is None:
        prompts = rng.permutation(np.unique(fitted.prompt))
        half = np.isin(fitted.prompt, prompts[: len(prompts) // 2])
        fitted, held = fitted.select(half), fitted.select(~half)
    else:
        held = _pairs(validation, rng)
    p = 0.5 + 0.5 * np.sign(held.states @ _ridge(fitted))
    return accuracy(p, held.label, held.weight, held.prompt), len(held.label)


def check_signal(
    train: FeatureSource, validation: FeatureSource | None = None, seed: int = 0
) -> Check:
    """Check that held-out labels are predictable and not reversed.

    An accuracy clearly below 1/2 means that two parts of the data have opposite signs: exchanged
    columns in one file, or ratings where lower is better.
    """
    where = "the validation rows" if validation is not None else "held-out prompts"
    rate, count = held_out_accuracy(train, validation, seed)
    finding = (
        f"a linear rule on the states is right on {percent(rate)} of {count:,} comparisons of "
        f"{where}; with labels turned around, on {1 - rate.value:.1%}"
    )
    error = 1.0 if np.isnan(rate.standard_error) else rate.standard_error
    if rate.value + 2 * error < 0.5:
        return Check(
            "label orientation",
            "fail",
            finding,
            "Turning the labels around would help: check which column holds the preferred "
            "response, file by file.",
        )
    if rate.value - 2 * error < 0.5:
        return Check(
            "label orientation",
            "warn",
            finding,
            "No signal shows yet. With few rows that is common; with many, check labels, "
            "max_length and the choice of the backbone.",
        )
    return Check("label orientation", "ok", finding)


def _pairs(source: FeatureSource, rng: np.random.Generator) -> _Pairs:
    rows = np.arange(len(source.pair_first))
    if len(rows) > MOST_PAIRS:
        rows = np.sort(rng.choice(rows, MOST_PAIRS, replace=False))
    first, second = np.asarray(source.pair_first)[rows], np.asarray(source.pair_second)[rows]
    states = np.asarray(source.responses[first], np.float64) - source.responses[second]
    return _Pairs(
        states,
        np.asarray(source.preference, np.float64)[rows],
        np.asarray(source.pair_weight, np.float64)[rows],
        np.asarray(source.response_prompt)[first],
    )


def _ridge(pairs: _Pairs) -> NDArray[Any]:
    """Return the weighted ridge coefficients, solved in the smaller of the two dimensions."""
    root = np.sqrt(pairs.weight)[:, None]
    x, y = root * pairs.states, root[:, 0] * (2 * pairs.label - 1)
    penalty = max(float((x**2).sum()) / max(len(x), 1), 1e-12)
    if len(x) < x.shape[1]:
        return x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(len(x)), y)
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)

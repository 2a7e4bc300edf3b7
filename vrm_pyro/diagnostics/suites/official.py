"""The official score of a benchmark, with its uncertainty over prompts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.diagnostics.metrics.bootstrap import prompt_bootstrap
from vrm_pyro.diagnostics.suites.suite import Credit, Means, Suite, mean_of

TOTAL = "total"


class Official(NamedTuple):
    """Sections and total of one model.

    Attributes:
        names: Sections in their order, the total last.
        values: Their scores, (S,); a total without all of its sections is NaN.
        draws: The same on resampled prompts, (draws, S).
        subsets: Mean of the first credit of each subset.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    draws: NDArray[np.float64]
    subsets: dict[str, float]

    def standard_error(self) -> NDArray[np.float64]:
        """Return the standard errors over prompts, (S,)."""
        return np.array([_spread(column) for column in self.draws.T])


def official_scores(
    suite: Suite, credits: Sequence[Credit], prompt: NDArray[np.int64]
) -> Official:
    """Apply the official rule.

    Args:
        suite: The benchmark.
        credits: Credits of its cases.
        prompt: Prompt of each case: the unit of the standard errors.
    """
    subsets = list(dict.fromkeys(credit.subset for credit in credits))
    place = np.array([subsets.index(credit.subset) for credit in credits])
    values = np.array([credit.values for credit in credits])
    weight = np.array([credit.weight for credit in credits])
    group = prompt[[credit.case for credit in credits]]

    def means(weight: NDArray[np.float64]) -> Means:
        mass = np.bincount(place, weight, len(subsets))
        sums = [np.bincount(place, weight * column, len(subsets)) for column in values.T]
        with np.errstate(invalid="ignore"):
            found = np.stack(sums, 1) / mass[:, None]
        return dict(zip(subsets, found, strict=True))

    def scores(weight: NDArray[np.float64]) -> NDArray[np.float64]:
        found = suite.sections(means(weight))
        return np.array([*found.values(), mean_of(found, suite.needed)])

    whole = means(weight)
    names = (*suite.sections(whole), TOTAL)
    draws = prompt_bootstrap(scores, weight, group)
    firsts = {subset: float(held[0]) for subset, held in whole.items()}
    return Official(names, scores(weight), draws, firsts)


def _spread(draws: NDArray[np.float64]) -> float:
    """Return the standard deviation; NaN where too few draws hold a prompt of the section."""
    known = draws[np.isfinite(draws)]
    return float(known.std(ddof=1)) if len(known) > 1 else float("nan")

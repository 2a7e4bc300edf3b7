"""A benchmark: how its rows become cases, and its official rule."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Row: TypeAlias = Mapping[str, Any]
Rewards: TypeAlias = NDArray[np.float64]
"""Reward of each response of a case."""
Means: TypeAlias = Mapping[str, NDArray[np.float64]]
"""Mean credits by subset, each (V,)."""


class Case(NamedTuple):
    """One item of a benchmark.

    Attributes:
        name: Its id.
        subset: The subset it counts in.
        prompt: Text or messages.
        responses: The completions, in the order of the benchmark.
        right: Whether each of them is one of the right ones.
        pairs: Comparisons (better, worse), by place.
        facts: What the benchmark's file of scores repeats of its row.
    """

    name: str
    subset: str
    prompt: Any
    responses: tuple[str, ...]
    right: tuple[bool, ...]
    pairs: tuple[tuple[int, int], ...]
    facts: Mapping[str, Any] = {}

    @classmethod
    def of_sides(
        cls,
        name: str,
        subset: str,
        prompt: Any,
        right: Sequence[str],
        wrong: Sequence[str],
        **facts: Any,
    ) -> "Case":
        """Return a case in which each right completion is compared with each wrong one.

        >>> Case.of_sides("7", "Focus", "2 + 2?", ["4"], ["5", "22"]).pairs
        ((0, 1), (0, 2))
        """
        first, count = len(right), len(right) + len(wrong)
        flags = tuple(place < first for place in range(count))
        pairs = tuple(product(range(first), range(first, count)))
        return cls(name, subset, prompt, (*right, *wrong), flags, pairs, facts)


class Credit(NamedTuple):
    """What a case, or two that belong together, adds to a subset.

    Attributes:
        subset: The subset.
        case: Number of the case; of the first of two.
        values: Credits, V numbers.
        weight: Weight in the mean of the subset.
    """

    subset: str
    case: int
    values: tuple[float, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Suite:
    """A benchmark of reward models.

    Args:
        text: Documentation: where it is published and what its rule is. The first line is its
            title.
        columns: Columns that are read.
        cases: Returns the cases of a row; raises
            :class:`~vrm_pyro.data.problem.RowProblem` if it is no row of the benchmark. Its second
            argument is the location of the row, which begins with the name of file or data set.
        credits: The official credit of all cases, given the rewards of their responses.
        sections: Official sections in their order from the mean credits of the subsets; sections
            without a case are left out.
        needed: Sections whose plain mean is the total.
        section: Section in which what the model adds is reported, by subset.
        record: Scores of every case in the format of the benchmark's own files.
        split: Split to read, by the name of the data set.
    """

    text: str
    columns: tuple[str, ...]
    cases: Callable[[Row, str], list[Case]]
    credits: Callable[[Sequence[Case], Sequence[Rewards]], list[Credit]]
    sections: Callable[[Means], dict[str, float]]
    needed: tuple[str, ...]
    section: Callable[[str], str]
    record: Callable[[Sequence[Case], Sequence[Rewards], str], Any]
    split: Callable[[str], str]

    @property
    def title(self) -> str:
        """First line of the documentation."""
        return self.text.strip().splitlines()[0].rstrip(".")


def wins(cases: Sequence[Case], rewards: Sequence[Rewards]) -> list[Credit]:
    """Return 1 for cases in which every right completion has a higher reward than every wrong one.

    Ties lose. It is the rule for one pair, and for a list with one winner.
    """
    return [
        Credit(case.subset, number, (float(_wins(case, reward)),))
        for number, (case, reward) in enumerate(zip(cases, rewards, strict=True))
    ]


def _wins(case: Case, reward: Rewards) -> bool:
    right = np.array(case.right)
    return bool(reward[right].min() > reward[~right].max())


def first_values(means: Means) -> dict[str, float]:
    """Return the first credit of each subset."""
    return {subset: float(values[0]) for subset, values in means.items()}


def mean_of(values: Mapping[str, float], names: Sequence[str]) -> float:
    """Return the plain mean of some sections, NaN where one is missing.

    >>> mean_of({"Chat": 0.5, "Code": 1.0}, ("Chat", "Code")), mean_of({}, ("Chat",))
    (0.75, nan)
    """
    return float(np.mean([values.get(name, np.nan) for name in names]))

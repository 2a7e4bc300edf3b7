"""RewardBench.

Published: ``allenai/reward-bench``, split ``filtered`` (2,985 pairs).

Rule: strict accuracy by subset, where a tie is a loss. A section is the mean of its subsets
weighted by their published numbers of pairs, in which ``math-prm`` counts 984, as much as the six
subsets of code together. The total is the mean of the four sections; the former fifth one, the
prior sets, is no part of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.diagnostics.suites.columns import name_of, text_of
from vrm_pyro.diagnostics.suites.suite import Case, Means, Rewards, Row, Suite, first_values, wins

COUNTS: Final[Mapping[str, Mapping[str, int]]] = {
    "Chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 154,
        "xstest-should-respond": 250,
        "donotanswer": 136,
    },
    "Reasoning": {
        "math-prm": 984,  # 447 pairs
        "hep-cpp": 164,
        "hep-go": 164,
        "hep-java": 164,
        "hep-js": 164,
        "hep-python": 164,
        "hep-rust": 164,
    },
}
"""Published number of pairs of each subset, by section."""

_SECTION: Final = {subset: section for section, held in COUNTS.items() for subset in held}


def cases(row: Row, place: str) -> list[Case]:
    """Return the pair of a row."""
    subset = text_of(row, "subset")
    if subset not in _SECTION:
        raise RowProblem(
            "unknown subset",
            f'"subset" is {subset!r:.40}, which RewardBench has not (the prior sets are no part).',
        )
    right, wrong = text_of(row, "chosen"), text_of(row, "rejected")
    return [Case.of_sides(name_of(row, "id", place), subset, row.get("prompt"), [right], [wrong])]


def sections(means: Means) -> dict[str, float]:
    """Return the sections that have a subset.

    >>> import numpy as np
    >>> sections({"hep-go": np.array([0.5]), "math-prm": np.array([1.0])})
    {'Reasoning': 0.9285714285714286}
    """
    found = {}
    for section, counts in COUNTS.items():
        held = {name: value for name, value in first_values(means).items() if name in counts}
        if held:
            mass = sum(counts[name] for name in held)
            found[section] = sum(counts[name] * value for name, value in held.items()) / mass
    return found


def record(cases: Sequence[Case], rewards: Sequence[Rewards], model: str) -> Any:
    """Return the columns of ``eval-set-scores``, without the texts."""
    return {
        "id": [case.name for case in cases],
        "subset": [case.subset for case in cases],
        "scores_chosen": [float(reward[0]) for reward in rewards],
        "scores_rejected": [float(reward[1]) for reward in rewards],
        "results": [int(reward[0] > reward[1]) for reward in rewards],
        "model": model,
        "model_type": "Seq. Classifier",
        "chat_template": "tokenizer",
    }


SUITE = Suite(
    __doc__,
    ("prompt", "chosen", "rejected", "subset", "id"),
    cases,
    wins,
    sections,
    tuple(COUNTS),
    _SECTION.__getitem__,
    record,
    lambda name: "filtered",
)
